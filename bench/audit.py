"""What the audit of each preset catches, and what judging costs.

Run: `python bench/audit.py [--no-measure]`. A leak is worth twice the noise of a trial. Its worst shape for
the audit is looked for: it may be spread over any share of the positions, much at few or little at many.
"caught" is the probability at that shape, "spread" where it is the same at every position; "K for 0.99"
the positions that would catch it; "reaches" the smallest leak, in units of the noise, that K positions catch
with 0.99 whatever its shape.

Costs: tokens the claim and the audit run forward, and seconds, from the ratio of a forward pass to a training
step measured here on the CPU with the template's model, and the training speeds named below. They
leave out the starts of the processes, which the table of a trial's own `judge_seconds` has.
"""

import argparse
import importlib.util
import math
import time
import tomllib

from autoresearch.paths import reference_config, templates_directory
from autoresearch.trial.judge import power

# Standard deviation between trials in bpb. H100 and larger: measured by others; the rest: scaled with the
# square root of tokens seen, an assumption until `doctor` has measured.
NOISE_BPB = {"h100": 0.0005, "24gb": 0.0008, "12gb": 0.001, "8gb": 0.001, "rocm": 0.001}
SLOW_NOISE_BPB = 0.002
BYTES_PER_TOKEN = 4.2
# Honest differences between claim and audit: bfloat16 arithmetic on a GPU, float32 on a CPU.
HONEST_NATS = {"gpu": 0.02, "cpu": 1e-4}
# Training tokens a second; upstream's own figure on an H100.
SPEED = {"h100": 1.65e6}
LARGEST_GAIN = 12.0
"""Nats: what knowing a token can gain where a small model expects it least."""


def worst_power(positions: int, leak_nats: float, tolerance: float, honest: float) -> float:
    """Return the power at the shape that hides best: few positions and much at each, or just below the tolerance."""
    if leak_nats >= LARGEST_GAIN:
        return 1.0
    fewest = leak_nats / LARGEST_GAIN
    shares = [fewest ** (1 - i / 200) for i in range(201)]
    shares.append(min(1.0, leak_nats / (0.999 * tolerance)))
    return min(power(positions, leak_nats, share, tolerance, honest) for share in shares)


def positions_needed(leak_nats: float, tolerance: float, honest: float) -> int:
    positions = 64
    while worst_power(positions, leak_nats, tolerance, honest) < 0.99 and positions < 1 << 24:
        positions = math.ceil(positions * 1.05)
    return positions


def leak_reached(positions: int, tolerance: float, honest: float) -> float:
    leak = 1e-4
    while worst_power(positions, leak, tolerance, honest) < 0.99 and leak < 10:
        leak *= 1.02
    return leak


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

    times = []
    for action in (forward, train):
        action()
        started = time.perf_counter()
        for _ in range(5):
            action()
        times.append((time.perf_counter() - started) / 5)
    return times[0] / times[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-measure", action="store_true")
    ratio = 1 / 3 if parser.parse_args().no_measure else measure_ratio()
    defaults = tomllib.loads(reference_config().read_text())["judge"]
    tolerance = float(defaults["tolerance"])
    print(f"judging a token costs {ratio:.2f} of training on it (CPU; the optimizer not counted)")
    head = (
        "preset",
        "K",
        "noise bpb",
        "caught",
        "spread",
        "K for 0.99",
        "reaches",
        "claim Mtok",
        "audit Mtok",
        "judging",
    )
    print("{:<8} {:>6} {:>9} {:>7} {:>7} {:>10} {:>8} {:>10} {:>10} {:>9}".format(*head))
    for path in sorted((templates_directory() / "presets").glob("*.toml")):
        settings = tomllib.loads(path.read_text())["settings"]
        judge = {**defaults, **settings["judge"]}
        name, context = path.stem, judge["context"]
        noise = NOISE_BPB.get(name, SLOW_NOISE_BPB)
        leak = 2 * noise * math.log(2) * BYTES_PER_TOKEN
        honest = HONEST_NATS["cpu" if name in ("cpu", "demo") else "gpu"]
        rows = judge["eval_tokens"] // context
        positions = min(judge["audit_positions"], rows)
        caught = worst_power(positions, leak, tolerance, honest)
        everywhere = power(positions, leak, 1.0, tolerance, honest)
        reached = leak_reached(positions, tolerance, honest) / leak * 2
        tokens = judge["eval_tokens"], positions * context
        share = "-"
        if name in SPEED:
            share = f"{sum(tokens) * ratio / SPEED[name]:.1f} s"
        needed = positions_needed(leak, tolerance, honest)
        print(
            f"{name:<8} {positions:>6} {noise:>9.4f} {caught:>7.3f} {everywhere:>7.3f} {needed:>10}"
            f" {reached:>7.1f}x {tokens[0] / 1e6:>10.2f} {tokens[1] / 1e6:>10.2f} {share:>9}"
        )


if __name__ == "__main__":
    main()
