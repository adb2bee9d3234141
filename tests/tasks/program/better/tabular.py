"""Robust scales, steps and squares and products as terms, and a ridge chosen by leaving rows out."""

import numpy as np


def terms(table):
    k = table.shape[1]
    columns = [np.ones(len(table)), *table.T, *(table.T**2 - 1)]
    columns += [np.tanh(4 * (table[:, i] - cut)) for i in range(k) for cut in (-0.5, 0.0, 0.5)]
    columns += [np.sin(2 * table[:, i]) for i in range(k)]
    columns += [table[:, i] * table[:, j] for i in range(k) for j in range(i + 1, k)]
    return np.stack(columns, axis=1)


def fit_predict(rows, target, queries):
    centre = np.nanmedian(rows, axis=0)
    spread = 1.48 * np.nanmedian(np.abs(rows - centre), axis=0) + 1e-9

    def scaled(table):
        found = (table - centre) / spread
        return np.nan_to_num(np.where(np.abs(found) > 4.5, 0.0, found))

    known, asked = terms(scaled(rows)), terms(scaled(queries))
    u, s, vt = np.linalg.svd(known, full_matrices=False)
    best = None
    for penalty in (3.0, 10.0, 30.0, 100.0, 300.0):
        share = s**2 / (s**2 + penalty)
        fitted = u @ (share * (u.T @ target))
        leverage = (u**2 * share).sum(axis=1)
        error = (((target - fitted) / (1 - leverage)) ** 2).mean()
        if best is None or error < best[0]:
            best = error, vt.T @ (s / (s**2 + penalty) * (u.T @ target))
    return asked @ best[1]
