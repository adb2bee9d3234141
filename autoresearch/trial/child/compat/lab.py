"""What the stand-in for upstream's prepare.py knows in this process: one trial, one script."""

import math
import os
import sys
import tempfile
from collections import deque
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from autoresearch.trial.child.client import Trial


class Lab:
    """What the shim knows in this process."""

    trial: "Trial | None" = None
    file = "train.py"
    root = Path()
    device = torch.device("cpu")
    vocab_size = 0
    max_seq_len = 0
    budget_seconds = 0.0
    is_building = False
    joined_at = 0.0
    started_at = math.inf
    trained: nn.Module | None = None
    evaluated: nn.Module | None = None
    recent: ClassVar[deque[tuple[Tensor, Tensor]]] = deque(maxlen=4)
    steps: ClassVar[deque[float]] = deque(maxlen=6)
    """When the last optimizer steps ended."""
    num_steps = 0
    raised: BaseException = SystemExit()
    """What a thread of the loader has its main thread raise."""
    is_over = False
    """Whether the data ended before the script."""
    counted: object = None
    """The optimizer whose steps count: a script may have several."""
    slack = 0.0
    """Seconds by which the script's clock may be behind the lab's."""


def enter_writable() -> Path:
    """Work in a folder that can be written, with links to the files of the snapshot: many scripts save checkpoints."""
    Lab.root = Path.cwd()
    folder = Path(tempfile.mkdtemp(prefix="work-"))
    for path in Lab.root.iterdir():
        (folder / path.name).symlink_to(path)
    os.chdir(folder)
    return folder


_said: set[str] = set()


def say_once(text: str) -> None:
    """Write a line to the log of the trial, the first time only."""
    if text not in _said:
        _said.add(text)
        sys.stderr.write(f"autoresearch: {text}\n")
