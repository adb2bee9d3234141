"""A slow trend against its noise; positions change only when it is clear, and shrink in turmoil."""

import numpy as np

last = mean = square = held = None


def positions(day, prices):
    global last, mean, square, held  # noqa: PLW0603
    now = np.log(prices)
    if day == 0:
        last, mean, held = now, np.zeros(len(now)), np.zeros(len(now))
        square = np.full(len(now), 1e-4)
        return held
    change = np.clip(now - last, -0.03, 0.03)
    last = now
    mean = 0.965 * mean + 0.035 * change
    square = 0.94 * square + 0.06 * change**2
    clear = mean / np.sqrt(square * 0.035 / 1.965)
    wanted = np.clip(clear / 2.5, -1, 1) * np.minimum(0.008 / np.sqrt(square), 1.0)
    held = np.where(np.abs(wanted - held) > 0.25, wanted, held)
    return held
