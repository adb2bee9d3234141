"""Sockets of services on this machine: Docker, D-Bus, X11, the lab's own, abstract names.

expect: crash exception
detail: nothing reached
"""

import socket

from base import play
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


build_model = play(__name__, before_start=reach)
