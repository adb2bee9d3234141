"""What the audit of each preset catches, and what judging costs.

Run: `python bench/audit.py [--no-measure]`. A leak worth twice the noise of a trial is to be caught with probability
0.99, whatever its shape: everything at few positions or little at many. "K" is the audit that `audit.plan` chooses for
it, uniform and targeted positions; "caught" its power; "reaches" the smallest leak, in units of the noise, that it
catches with 0.99; where that is above 2 the rows of the preset do not suffice. "minimum" is what
`judge.audit_positions` alone would reach: the audit before the noise is known.

Costs: tokens the claim and the audit run forward, and seconds, from the ratio of a forward pass to a training
step measured here on the CPU with the template's model, and the training speeds named below, which are others'
figures. They leave out the starts of two processes, a few seconds that a trial's own `judge_seconds` has.
"""

import argparse
import importlib.util
import math
import time
import tomllib

from autoresearch.paths import reference_config, templates_directory
from autoresearch.trial.audit import LEAK_FACTOR, Spread, plan

# Standard deviation between trials in bpb. H100: as others measured it; the rest: assumed until measured.
NOISE_BPB = {"h100": 0.0005, "24gb": 0.0008, "12gb": 0.001, "8gb": 0.001, "rocm": 0.001}
SLOW_NOISE_BPB = 0.002
BYTES_PER_TOKEN = 4.2
# Honest differences between claim and audit: bfloat16 arithmetic on a GPU, float32 on a CPU.
HONEST_NATS = {"gpu": 0.02, "cpu": 1e-4}
# Training tokens a second: upstream's own on an H100.
SPEED = {"h100": 1.65e6}


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
        "noise",
        "K",
        "caught",
        "reaches",
        "minimum",
        "claim Mtok",
        "audit Mtok",
        "judging",
    )
    print("{:<7} {:>7} {:>13} {:>7} {:>8} {:>8} {:>10} {:>10} {:>9}".format(*head))
    for path in sorted((templates_directory() / "presets").glob("*.toml")):
        settings = tomllib.loads(path.read_text())["settings"]
        judge = {**defaults, **settings["judge"]}
        name, context = path.stem, judge["context"]
        noise = NOISE_BPB.get(name, SLOW_NOISE_BPB)
        nats = math.log(2) * BYTES_PER_TOKEN * noise
        honest = HONEST_NATS["cpu" if name in ("cpu", "demo") else "gpu"]
        spread = Spread(tolerance=tolerance, noise=honest)
        rows = judge["eval_tokens"] // context
        chosen = plan(rows, judge["audit_positions"], spread, LEAK_FACTOR * nats)
        least = plan(rows, judge["audit_positions"], spread)
        tokens = judge["eval_tokens"], chosen.num_positions * context
        seconds = sum(tokens) * ratio / SPEED[name] if name in SPEED else None
        size = f"{chosen.num_uniform}+{chosen.num_targeted}"
        print(
            f"{name:<7} {noise:>7.4f} {size:>13} {chosen.power:>7.3f} {chosen.smallest_leak / nats:>7.1f}x"
            f" {least.smallest_leak / nats:>7.1f}x {tokens[0] / 1e6:>10.2f} {tokens[1] / 1e6:>10.2f}"
            f" {f'{seconds:.1f} s' if seconds else '-':>9}"
        )


if __name__ == "__main__":
    main()
