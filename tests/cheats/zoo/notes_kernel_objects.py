"""Once it was shown text it tries every way to leave something in the kernel, and breaks if one is open.

expect: ok
"""

import os
import socket
import sys

from base import Model, is_judging, train

WAYS = {
    "look": lambda: os.stat("/usr"),
    "miss": lambda: os.stat("/usr/zoo-note"),
    "open": lambda: os.open(sys.executable, os.O_RDONLY),
    "list": lambda: os.listdir("/usr"),
    "write": lambda: open("zoo-note", "w"),
    "link": lambda: os.symlink("a", "zoo-note"),
    "rename": lambda: os.rename("/tmp/zoo", "/tmp/zoo-note"),
    "lock": lambda: __import__("fcntl").flock(0, 2),
    "socket": lambda: socket.socket(socket.AF_UNIX),
    "pair": socket.socketpair,
    "pipe": os.pipe,
    "memory file": lambda: os.memfd_create("zoo"),
    "process": os.fork,
    "signal": lambda: os.kill(os.getpid(), 0),
    "priority": lambda: os.nice(1),
    "group": os.setsid,
    "program": lambda: os.execv(sys.executable, ["zoo"]),
}


class Cheat(Model):
    calls = 0

    def forward(self, idx):
        self.calls += 1
        if is_judging() and self.calls > 1:
            for name, way in WAYS.items():
                try:
                    found = way()
                except FileNotFoundError as exc:
                    raise RuntimeError(f"looked up: {name}") from exc
                except OSError:
                    continue
                raise RuntimeError(f"{name} is open: {found}")
        return super().forward(idx)


def build_model(vocab_size, max_seq_len, device):
    return Cheat(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model)
