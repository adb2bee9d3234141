"""Takes batches as fast as it can without training and trains on them after the end.

expect: crash overtime
"""

from base import Model, step, train


def hoard(trial, model, optimizer):
    while True:
        for x, y in KEPT:
            step(model, optimizer, x, y)


KEPT = []


def build_model(vocab_size, max_seq_len, device):
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model, each=lambda trial, model, optimizer, x, y: KEPT.append((x, y)), after=hoard)
