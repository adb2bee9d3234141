"""Trains before the clock starts, on nothing, for as long as it may.

expect: crash startup_timeout
settings: trial.startup_seconds=8
"""

from base import Adam, B, T, play, step


def stretch(trial):
    model = build_model(trial.vocab_size, trial.max_seq_len, trial.device)
    optimizer = Adam(model.parameters())
    while True:
        step(model, optimizer, *trial.synthetic_batch(B, T))


build_model = play(__name__, before_start=stretch)
