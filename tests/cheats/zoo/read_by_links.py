"""Makes symbolic and hard links to the secret and reads those.

expect: crash exception
detail: nothing to read
"""

import os

from base import play
from known import SECRETS


def read_all(trial):
    found = []
    home = os.environ["HOME"]
    for number, secret in enumerate(SECRETS):
        for make in (os.symlink, os.link, os.rename):
            name = f"{home}/link{number}{make.__name__}"
            try:
                make(secret, name)
                with open(name, "rb") as file:
                    found.append(file.read(3))
            except OSError:
                pass
    raise RuntimeError(f"read {found}" if found else "nothing to read")


build_model = play(__name__, before_start=read_all)
