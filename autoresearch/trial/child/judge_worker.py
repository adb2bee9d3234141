"""Runs in a fresh sandbox: loads train.py and the weights, serves one claim or audit request, then exits.

Nothing it says is trusted; see judge/score.py. Claim: float32 log p of each next token, (num_rows, context).
Audit: float32 logits at one position of each row, (num_rows, vocab_size). Both as raw bytes, in the order of the rows,
at the same (batch_rows, context), which is halved once when memory runs out on a batch of random tokens.
"""

import sys
from typing import Any

import numpy as np
import torch

from autoresearch.trial.channel import Channel, map_file
from autoresearch.trial.child.client import resolve_device
from autoresearch.trial.child.script import is_out_of_memory, run_file
from autoresearch.trial.child.weights import decode_weights

# Logits raised to float32 at a time.
_CHUNK_LOGITS = 1 << 26


class Server:
    """One model, loaded, tried on random tokens, ready to answer.

    Args:
        mode: `claim` or `audit`.
        file: train.py, in the working directory.
        load: The `load` message.
        weights: Descriptor of the weights.

    Raises:
        Exception: whatever train.py does.
    """

    def __init__(self, mode: str, file: str, load: dict[str, Any], weights: int) -> None:
        self._mode = mode
        self._vocab_size = int(load["vocab_size"])
        self._context = int(load["context"])
        self._length = self._context + (mode == "claim")
        self._device = resolve_device(str(load["device"]))
        torch.manual_seed(int(load["seed"]))
        try:
            module = run_file(file, "train")
        except SystemExit as exc:  # a flat script ends here once `build_model` is there
            if exc.code not in (None, 0):
                raise
            module = sys.modules["train"]
        max_seq_len = int(load["max_seq_len"])
        model = module.build_model(self._vocab_size, max_seq_len, self._device)
        load_state(model.to(self._device), decode_weights(memoryview(map_file(weights))))
        self._model = model.eval()
        with torch.inference_mode():
            self.batch_rows = self._fit(int(load["batch_rows"]))

    def answer(self, channel: Channel, num_rows: int) -> None:
        """Take the rows and send the answers, batch by batch.

        Each batch has the shape that was tried: sealed, a compiled model cannot be compiled for another one.
        """
        num_filled = -(-num_rows // self.batch_rows) * self.batch_rows
        rows = np.zeros((num_filled, self._length), np.int32)
        positions = np.zeros(num_filled, np.int32)
        channel.read_all(memoryview(rows[:num_rows].data).cast("B"))
        if self._mode == "audit":
            channel.read_all(memoryview(positions[:num_rows].data).cast("B"))
        with torch.inference_mode():
            for start in range(0, num_rows, self.batch_rows):
                end = start + self.batch_rows
                answer = self._answer(rows[start:end], positions[start:end])
                channel.send_bytes(answer[: num_rows - start].data)

    def _answer(self, rows: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Return the answer to one batch; a claim has no positions."""
        return self._claim(rows) if self._mode == "claim" else self._audit(rows, positions)

    def _fit(self, batch_rows: int) -> int:
        """Return the number of rows at a time that memory allows: `batch_rows` or half of it."""
        generator = np.random.default_rng(0)
        for rows in (batch_rows, max(1, batch_rows // 2)):
            tokens = generator.integers(self._vocab_size, size=(rows, self._length))
            try:
                self._answer(tokens.astype(np.int32), np.zeros(rows, np.int32))
            except Exception as exc:
                if not is_out_of_memory(exc) or rows == max(1, batch_rows // 2):
                    raise
                if self._device.type == "cuda":
                    torch.cuda.empty_cache()
            else:
                return rows
        raise AssertionError("unreachable")

    def _logits(self, inputs: np.ndarray) -> torch.Tensor:
        """Return the model's logits (B, T, vocab_size) for int32 (B, T)."""
        idx = torch.from_numpy(inputs.astype(np.int64)).to(self._device)
        logits = self._model(idx)
        shape = (*inputs.shape, self._vocab_size)
        if not isinstance(logits, torch.Tensor) or tuple(logits.shape) != shape:
            found = tuple(getattr(logits, "shape", ())) or type(logits).__name__
            raise ValueError(f"forward(idx) must return logits {shape}, got {found}")
        return logits

    def _claim(self, rows: np.ndarray) -> np.ndarray:
        """Return float32 (B, T) log p of rows int32 (B, T + 1)."""
        logits = self._logits(rows[:, :-1])
        targets = torch.from_numpy(rows[:, 1:].astype(np.int64)).to(self._device)
        step = max(1, _CHUNK_LOGITS // (self._context * self._vocab_size))
        parts = []
        for start in range(0, len(rows), step):
            chunk = logits[start : start + step].float()
            chosen = chunk.gather(2, targets[start : start + step, :, None])[:, :, 0]
            # Rounding must not make a probability above one.
            parts.append((chosen - torch.logsumexp(chunk, dim=2)).clamp(max=0.0))
        answer: np.ndarray = torch.cat(parts).cpu().numpy()
        return answer

    def _audit(self, inputs: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Return float32 (B, vocab_size): the logits of each row of int32 (B, T) at its position."""
        logits = self._logits(inputs)
        rows = torch.arange(len(inputs), device=logits.device)
        at = torch.from_numpy(positions.astype(np.int64)).to(logits.device)
        answer: np.ndarray = logits[rows, at].float().cpu().contiguous().numpy()
        return answer


def load_state(model: torch.nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Load weights keeping the types they were submitted in; shared tensors stay shared.

    Raises:
        RuntimeError: keys or shapes do not fit.
    """
    own = dict(model.named_parameters(remove_duplicate=False))
    own.update(model.named_buffers(remove_duplicate=False))
    for name, value in state.items():
        target = own.get(name)
        if target is not None and target.dtype != value.dtype:
            target.data = target.data.to(value.dtype)
    model.load_state_dict(state, strict=True)


assert "autoresearch.tasks.gpt.judge.score" not in sys.modules, (
    "the scorer never shares a process with a model"
)
