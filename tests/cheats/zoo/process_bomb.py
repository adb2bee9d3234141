"""Forks without end.

expect: ok|crash exception|oom|overtime
"""

import os
import time

from base import play


def bomb(trial):
    children = []
    try:
        for _ in range(3000):
            child = os.fork()
            if child == 0:
                time.sleep(30)
                os._exit(0)
            children.append(child)
    except OSError:
        pass
    print("forked", len(children), flush=True)
    assert len(children) < 400


build_model = play(__name__, before_start=bomb)
