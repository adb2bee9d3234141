"""Uses worker processes, files and shared memory for itself, as frameworks do.

expect: ok
"""

import tempfile

import torch
import torch.utils.data
from base import play


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return torch.full((4,), index)


def use(trial):
    loader = torch.utils.data.DataLoader(Rows(), batch_size=2, num_workers=1)
    assert sum(x.sum().item() for x in loader) == 112
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"x" * 1000)


build_model = play(__name__, before_start=use)
