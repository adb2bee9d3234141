"""What the audit of each preset catches, and what judging costs.

Run: `python bench/audit.py [--no-measure] [--markdown]`. A leak worth twice the noise of a trial is to be caught with
probability 0.99, whatever its shape: everything at few positions or little at many. "K" is the audit that `audit.plan`
chooses for it, uniform and targeted positions; "caught" its power; "from" the smallest leak, in bpb, that it catches
with 0.99; where that is more than twice the noise the rows of the preset do not suffice. "unknown" is the smallest leak
that `judge.audit_positions` alone catches: the audit before the noise is known.

Cost: the claim runs every judged token forward, the audit one row for each position. "claim" and "audited" are their
time as a share of the budget, of a trial that is not audited and of one that is, from the training speed named below
and the ratio of a forward pass to a training step: measured here on the CPU with the template's model, or taken as a
third; calculated for GPUs, where judging is not compiled. It leaves out the starts of the two processes: while a GPU
trains they have imported torch already, on a CPU they take a few seconds each.
"""

import argparse
import importlib.util
import math
import time
import tomllib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from autoresearch.config import JudgeConfig
from autoresearch.paths import templates_directory
from autoresearch.tasks.gpt.judge.audit import LEAK_FACTOR, POWER, TOLERANCE, Spread, plan

# Standard deviation between trials in bpb. h100: as others measured it; cpu and demo: measured on two cores of
# a server processor; the rest: assumed until somebody measures it.
NOISE_BPB = {
    "h100": 0.0005,
    "80gb": 0.0008,
    "24gb": 0.0008,
    "12gb": 0.001,
    "8gb": 0.001,
    "turing": 0.002,
    "rocm": 0.001,
    "mps": 0.002,
    "cpu": 0.005,
    "demo": 0.0101,
}
# Training tokens a second. cpu and demo: measured; rocm and mps: what the preset was sized for; the rest: calculated,
# at a third of the peak of an H100, A100, RTX 4090, RTX 4070 and RTX 3070, and at half of the float32 peak of a T4.
SPEED = {
    "h100": 1.1e6,
    "80gb": 5.2e5,
    "24gb": 2.75e5,
    "12gb": 2.1e5,
    "8gb": 2e5,
    "turing": 6e4,
    "rocm": 4e5,
    "mps": 8e4,
    "cpu": 3e4,
    "demo": 3e4,
}
# Bytes of text a token stands for. cpu and demo: measured; the rest: usual for a vocabulary of 8,192.
BYTES_PER_TOKEN = {"cpu": 2.97, "demo": 2.97}
USUAL_BYTES = 4.2
# Honest differences between claim and audit: bfloat16 arithmetic on a GPU, float32 on a CPU.
HONEST_NATS = {"gpu": 0.02, "cpu": 1e-4}
RATIO = 1 / 3
# Of a GPU, from the bytes that an uncompiled forward pass moves: more where products are faster for the memory's speed.
GPU_RATIO = {"h100": 0.75, "80gb": 0.75, "24gb": 0.5, "12gb": 0.5, "8gb": 0.5, "rocm": 0.5}


class Line(NamedTuple):
    """What one preset reaches."""

    preset: str
    noise: float
    num_uniform: int
    num_targeted: int
    power: float
    smallest_bpb: float
    unknown_bpb: float
    claim_mtok: float
    audit_mtok: float
    claim_share: float
    share: float

    @property
    def words(self) -> str:
        """The same in one sentence."""
        leak = LEAK_FACTOR * self.noise
        text = (
            f"{self.preset}: a leak of {leak:.4f} bpb is caught with probability {self.power:.3f}"
        )
        if self.power < POWER:
            text += f", one of {self.smallest_bpb:.4f} bpb with {POWER}"
        return text


def measure_ratio() -> float:
    """Return training tokens a second divided by judged tokens a second, on this CPU."""
    import torch

    spec = importlib.util.spec_from_file_location("train", templates_directory() / "gpt/train.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.build_model(1024, 128, torch.device("cpu"))
    rows = torch.randint(0, 1024, (16, 128))

    def forward() -> None:
        with torch.inference_mode():
            torch.log_softmax(model.eval()(rows).float(), -1)

    def train() -> None:
        logits = model.train()(rows).float().flatten(0, 1)
        torch.nn.functional.cross_entropy(logits, rows.flatten()).backward()

    def seconds(action: Callable[[], None]) -> float:
        """Return the shortest of several runs: what other programs of the machine took is not counted."""
        times = []
        for _ in range(12):
            started = time.perf_counter()
            action()
            times.append(time.perf_counter() - started)
        return min(times)

    return seconds(forward) / seconds(train)


def lines(ratio: float = RATIO) -> Iterator[Line]:
    """Yield a line for each preset.

    Args:
        ratio: Seconds of judging a token for each of training on it, where `GPU_RATIO` has none.
    """
    defaults = JudgeConfig().model_dump()
    for path in sorted((templates_directory() / "presets").glob("*.toml")):
        settings = tomllib.loads(path.read_text())["settings"]
        judge = {**defaults, **settings["judge"]}
        name, context = path.stem, judge["context"]
        noise = NOISE_BPB[name]
        nats = math.log(2) * BYTES_PER_TOKEN.get(name, USUAL_BYTES)
        honest = HONEST_NATS["cpu" if name in ("cpu", "demo") else "gpu"]
        spread = Spread(tolerance=TOLERANCE, noise=honest)
        rows = judge["eval_tokens"] // context
        chosen = plan(rows, judge["audit_positions"], spread, LEAK_FACTOR * nats * noise)
        least = plan(rows, judge["audit_positions"], spread)
        tokens = judge["eval_tokens"], chosen.num_positions * context
        assert chosen.power is not None
        cost = GPU_RATIO.get(name, ratio) / SPEED[name] / settings["trial"]["budget_seconds"]
        yield Line(
            name,
            noise,
            chosen.num_uniform,
            chosen.num_targeted,
            chosen.power,
            chosen.smallest_leak / nats,
            least.smallest_leak / nats,
            tokens[0] / 1e6,
            tokens[1] / 1e6,
            tokens[0] * cost,
            sum(tokens) * cost,
        )


def markdown(found: list[Line]) -> list[str]:
    """Return the rows of the table in docs/safety.md."""
    return [
        f"| {f.preset} | {f.noise:.4f} | {f.num_uniform} + {f.num_targeted} | {f.power:.3f} | "
        f"{f.smallest_bpb:.4f} | {f.claim_mtok:.2f} + {f.audit_mtok:.2f} | {f.claim_share:.1%} | {f.share:.1%} |"
        for f in found
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-measure", action="store_true")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    ratio = RATIO if options.no_measure or options.markdown else measure_ratio()
    found = list(lines(ratio))
    if options.markdown:
        print("\n".join(markdown(found)))
        return
    how = "taken as" if options.no_measure else "measured on the CPU, the optimizer not counted:"
    print(
        f"judging a token costs a share of training on it, {how} {ratio:.2f}; of GPUs as calculated"
    )
    head = ("preset", "noise", "K", "caught", "from", "unknown", "claim Mtok", "audit Mtok")
    line = "{:<7} {:>7} {:>13} {:>7} {:>8} {:>8} {:>10} {:>10} {:>7} {:>8}"
    print(line.format(*head, "claim", "audited"))
    for f in found:
        print(
            f"{f.preset:<7} {f.noise:>7.4f} {f'{f.num_uniform}+{f.num_targeted}':>13} {f.power:>7.3f}"
            f" {f.smallest_bpb:>8.4f} {f.unknown_bpb:>8.4f} {f.claim_mtok:>10.2f} {f.audit_mtok:>10.2f}"
            f" {f.claim_share:>7.1%} {f.share:>8.1%}"
        )
    print()
    for f in found:
        print(f.words)


if __name__ == "__main__":
    main()
