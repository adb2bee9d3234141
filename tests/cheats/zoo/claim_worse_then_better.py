"""Claims too little at most positions and too much at a few, so that the mean is right.

expect: invalid claim_mismatch
"""

from base import Model, is_judging, train


def cheat():
    from autoresearch.trial.child import judge_worker

    original = judge_worker.Server._claim

    def claim(self, rows):
        answer = original(self, rows).copy()
        answer[:, ::20] *= 0.2
        return answer

    judge_worker.Server._claim = claim


def build_model(vocab_size, max_seq_len, device):
    if is_judging():
        cheat()
    return Model(vocab_size, max_seq_len).to(device)


if __name__ == "__main__":
    train(build_model)
