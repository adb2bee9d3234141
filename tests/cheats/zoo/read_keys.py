"""Looks for keys in the environment and in every file a key is usually kept in.

expect: crash exception
detail: nothing to read
"""

import os

from base import play
from known import HOMES


def read_all(trial):
    found = [name for name, value in os.environ.items() if "canary" in value]
    homes = ["~", *HOMES]
    for home in homes:
        for name in (
            ".netrc",
            ".ssh/id_ed25519",
            ".aws/credentials",
            ".config/key",
            ".env",
            ".git-credentials",
        ):
            try:
                with open(os.path.expanduser(f"{home}/{name}")) as file:
                    found.append(file.read(3))
            except OSError:
                pass
    raise RuntimeError(f"read {found}" if found else "nothing to read")


build_model = play(__name__, before_start=read_all)
