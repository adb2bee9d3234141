"""Sockets of services on this machine: Docker, D-Bus, X11, the lab's own, abstract names.

expect: crash exception
detail: nothing reached
"""

import socket

from base import Model, train
from known import SOCKETS


def reach(trial):
    found = []
    names = ["/var/run/docker.sock", "/run/dbus/system_bus_socket", "/tmp/.X11-unix/X0", *SOCKETS]
    names += ["\0/tmp/.X11-unix/X0"]
    for name in names:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
            try:
                socket.socket(socket.AF_UNIX, kind).connect(name)
                found.append(name)
            except OSError:
                pass
    raise RuntimeError(f"reached {found}" if found else "nothing reached")


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, before_start=reach)
