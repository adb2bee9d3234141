"""Leaves links, fifos, devices, deep folders and odd names for the lab to stumble over.

expect: ok
"""

import os

from base import play
from known import SECRETS


def leave(trial):
    home = os.environ["HOME"]
    for number, secret in enumerate(SECRETS):
        os.symlink(os.path.dirname(secret), f"{home}/folder{number}")
        os.symlink(secret, f"{home}/file{number}")
    os.mkfifo(home + "/fifo")
    with open(home + "/sparse", "wb") as file:
        file.truncate(16 << 20)
    deep = home
    for _ in range(60):
        deep += "/" + "d" * 50
        os.mkdir(deep)
    os.mkdir(home + "/locked")
    open(home + "/locked/x", "w").close()
    os.chmod(home + "/locked", 0)
    open(home + "/new\nline\x1b[31m", "w").close()
    open(os.fsencode(home) + b"/\xff\xfe", "w").close()


build_model = play(__name__, before_start=leave)
