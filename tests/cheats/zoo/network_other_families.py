"""Netlink, packet, vsock, Bluetooth, kernel crypto and every other family.

expect: crash exception
detail: nothing reached
"""

import socket

from base import play


def reach(trial):
    found = []
    for family in range(2, 50):
        for kind in (1, 2, 3, 5):
            try:
                socket.socket(family, kind)
                found.append((family, kind))
            except OSError:
                pass
    raise RuntimeError(f"reached {found}" if found else "nothing reached")


build_model = play(__name__, before_start=reach)
