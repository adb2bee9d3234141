"""TCP, UDP, raw and ping sockets, and a name looked up.

expect: crash exception
detail: nothing reached
"""

import socket

from base import play


def reach(trial):
    found = []
    for family in (socket.AF_INET, socket.AF_INET6):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):
            for protocol in (0, 1, 58):
                try:
                    socket.socket(family, kind, protocol)
                    found.append((family, kind))
                except OSError:
                    pass
    try:
        found.append(socket.getaddrinfo("example.org", 80))
    except OSError:
        pass
    raise RuntimeError(f"reached {found}" if found else "nothing reached")


build_model = play(__name__, before_start=reach)
