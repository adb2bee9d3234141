"""Trains on the validation rows while it is judged.

expect: invalid claim_mismatch|biased_claim
"""

import torch
from base import Adam, Model, is_judging, play, step


class Cheat(Model):
    def forward(self, idx):
        logits = super().forward(idx)
        if not is_judging():
            return logits
        with torch.inference_mode(False), torch.enable_grad():
            rows = idx.clone()
            copy = self.__dict__.setdefault("copy", Model(self.vocab_size, len(self.count)))
            if "fast" not in self.__dict__:
                copy.load_state_dict({k: v.clone() for k, v in self.state_dict().items()})
                self.__dict__["fast"] = Adam(copy.parameters(), lr=3e-2)
            for _ in range(10):
                step(copy, self.__dict__["fast"], rows[:, :-1], rows[:, 1:])
        return copy(idx).detach()


build_model = play(__name__, Cheat)
