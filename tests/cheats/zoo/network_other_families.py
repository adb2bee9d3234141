"""Netlink, packet, vsock, Bluetooth, kernel crypto and every other family.

expect: crash exception
detail: nothing reached
"""

import socket

from base import Model, train


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


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, before_start=reach)
