"""Measures the train.py template on this machine: speed, memory, start-up, judging and val_bpb, by preset.

    python bench/train.py --seconds 60            # every preset that fits the device, and the reference
    python bench/train.py --seconds 300 --presets 24gb --rows preset,public --json
    python bench/train.py --presets cpu --rows preset,recipe --seeds 6    # six pairs of 60 s

Each row is a real trial: sandboxed where a sandbox works, fed and judged by the lab, audit included. No network:
the text is `builtin:packages` unless `--source` names another; so val_bpb compares rows of one table only.
Rows: `preset`, the template as the preset sets it; `reference`, bench/reference_trainer.py at the same shape;
`public`, the template at the shape and constants of the best recipe published for an H100, which preset `h100` is;
`recipe`, the preset with the rates, decays and schedule of that recipe. `start` is the start-up of a
first trial, `again` that of a second one with the compile caches of the first. `judge %` is what judging takes of
the budget. With --seeds each row is trained with so many seeds, the rows in turn, and the last lines give the mean
difference in val_bpb to the first row of the preset at the same seeds, with its 95 % interval.
"""

import argparse
import json
import sys
import tempfile
import types
from collections.abc import Iterator
from dataclasses import asdict
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from autoresearch.bootstrap import presets
from autoresearch.config import Config, load_config
from autoresearch.machine.hardware import Hardware, describe, device_of
from autoresearch.sandbox import Sandbox, choose
from autoresearch.tasks.gpt.attention import VARIABLE, choose_attention
from autoresearch.tasks.gpt.data.prepare import open_dataset, prepare
from autoresearch.tasks.gpt.executor import GptExecutor
from autoresearch.types import Purpose, TrialResult, TrialSpec
from autoresearch.util.stats import student_quantile

REFERENCE = Path(__file__).parent / "reference_trainer.py"
SHAPE = ("DEPTH", "WIDTH", "NUM_HEADS", "CONTEXT", "ROWS", "ACCUMULATE")
# upstream's branch exp/H100/mar8, the last kept row of its results.tsv.
RECIPE = {
    "ROPE_BASE": 200_000.0,
    "EMBED_LR": 0.9,
    "HEAD_LR": 0.005,
    "EMBED_DECAY": 0.001,
    "VALUE_DECAY": 0.003,
    "HEAD_DECAY": 0.01,
    "FINAL_DECAY": 0.0,
    "MOMENTUM_STEPS": 200,
    "SHORTCUT": 0.05,
    "SHORTCUT_BETA1": 0.96,
    "COOLDOWN": 0.75,
    "FINAL_LR": 0.05,
    "INIT_SCALE": 0.68,
}
PUBLIC = {"DEPTH": 9, "WIDTH": 640, "NUM_HEADS": 5, "HEAD_SIZE": 128, "LONG_EVERY": 5, **RECIPE}
ROWS = ("preset", "recipe", "public", "reference")


def fitting(hardware: Hardware) -> list[str]:
    """Return the presets that can run here: those of the device's size and below, `cpu` on a CPU."""
    return [preset.name for preset in presets.fitting(hardware)]


def rows_of(names: list[str], kinds: list[str], is_gpu: bool) -> list[tuple[str, str, str]]:
    """Return (row name, preset, text of train.py)."""
    rows = []
    for name in names:
        text = presets.render("gpt", name)["train.py"]
        constants = presets.load_preset(name).constants
        shape = {key: constants[key] for key in SHAPE}
        if is_gpu:  # without compilation it keeps twice as much
            shape |= {"ROWS": shape["ROWS"] // 2, "ACCUMULATE": 2 * shape["ACCUMULATE"]}
        plain = REFERENCE.read_text(encoding="utf-8")
        texts = {
            "preset": text,
            "recipe": presets.set_constants(text, RECIPE),
            "public": presets.set_constants(text, PUBLIC),
            "reference": presets.set_constants(plain, shape),
        }
        rows += [(name if k == "preset" else f"{name} {k}", name, texts[k]) for k in kinds]
    return rows


def run(
    config: Config, sandbox: Sandbox, attention: str, text: str, seed: int, scratch: Path
) -> tuple[TrialResult, TrialResult]:
    """Return the result of a first trial, short where only its start-up counts, and of one with `seed`."""
    executor = GptExecutor(
        config,
        open_dataset(config),
        sandbox,
        scratch=scratch / "trials",
        cache=scratch / "cache",
        environment={VARIABLE: attention},
        device=device_of(describe().kind),
    )
    files = {"train.py": text.encode()}
    cold = TrialSpec(
        files=files,
        seed=0,
        budget_seconds=2.0,
        label="cold",
        purpose=Purpose.BASELINE,
    )
    seconds = config.trial.budget_seconds
    warm = TrialSpec(files=files, seed=seed, budget_seconds=seconds, label="warm")
    return executor.run(cold), executor.run(warm)


def mfu_percent(
    tokens_per_second: float,
    *,
    num_matrix_params: int,
    attention_tokens: float,
    attention_width: int,
    depth: int,
    peak: float | None,
) -> float | None:
    """Return model FLOPs utilisation in percent, None when the peak is unknown.

    A token costs 6 FLOPs for each parameter that is multiplied (embeddings looked up are not) and
    12 * depth * attention_width for each earlier token it really attends to, forward and backward.
    Source: PaLM (Chowdhery et al. 2022), appendix B; differs in that the causal half and the windows
    are counted as they are, not as the full square.

    Args:
        tokens_per_second: Training tokens a second.
        num_matrix_params: Parameters of the matrices, the output matrix included.
        attention_tokens: Mean number of tokens a position attends to, over positions and layers.
        attention_width: Heads times head size.
        depth: Layers.
        peak: TFLOPS, see `peak_tflops`.
    """
    if peak is None:
        return None
    flops = 6.0 * num_matrix_params + 12.0 * depth * attention_width * attention_tokens
    return 100.0 * flops * tokens_per_second / (peak * 1e12)


def mfu(text: str, config: Config, result: TrialResult, peak: float | None) -> float | None:
    """Return MFU in percent of a row of the template; None for another model or an unknown peak."""
    if "SHORT_WINDOW" not in text or not result.tokens_per_second or peak is None:
        return None
    module = types.ModuleType("train")
    exec(compile(text, "train.py", "exec"), module.__dict__)
    model = module.build_model(config.data.vocab_size, config.trial.max_seq_len, "meta")
    context = module.CONTEXT
    windows = [block.attention.window or context for block in model.blocks]
    seen = [sum(min(t, w) + 1 for t in range(context)) / context for w in windows]
    return mfu_percent(
        result.tokens_per_second,
        num_matrix_params=sum(p.numel() for p in model.blocks.parameters())
        + model.head.weight.numel(),
        attention_tokens=sum(seen) / len(seen),
        attention_width=module.NUM_HEADS * module.HEAD_SIZE,
        depth=module.DEPTH,
        peak=peak,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="budget of a trial")
    parser.add_argument("--presets", default="", help="comma-separated; default: those that fit")
    parser.add_argument("--rows", default="preset,reference", help=f"of {', '.join(ROWS)}")
    parser.add_argument(
        "--seeds", type=int, default=1, help="trials of a row; 6 show a difference of one noise"
    )
    parser.add_argument("--source", default="builtin:packages")
    parser.add_argument("--max-bytes", type=int, default=0, help="text to read; 0 is all")
    parser.add_argument("--unsafe-no-sandbox", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    hardware = describe()
    names = options.presets.split(",") if options.presets else fitting(hardware)
    sandbox = choose(is_unsafe_allowed=options.unsafe_no_sandbox)
    found = []
    is_gpu = hardware.kind in ("cuda", "rocm")
    kinds = options.rows.split(",")
    if unknown := set(kinds) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    say(f"{hardware.name}, torch {hardware.torch}, {hardware.cores} cores, sandbox {sandbox.name}")
    rows = rows_of(names, kinds, is_gpu)
    for seed, (row, preset, text) in product(range(1, options.seeds + 1), rows):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            root.chmod(0o755)
            settings = {
                f"{section}.{key}": value
                for section, table in presets.load_preset(preset).settings.items()
                for key, value in table.items()
            }
            settings |= {"data.source": options.source, "data.max_bytes": options.max_bytes}
            settings["trial.budget_seconds"] = options.seconds
            config = load_config(None, settings).config
            prepare(config)
            unigram = open_dataset(config).unigram_bpb
            attention = choose_attention(hardware, max_seq_len=config.trial.max_seq_len).choice
            first, second = run(config, sandbox, attention, text, seed, root)
        judged = second.judge_seconds
        values = {
            "row": row,
            "judge_percent": None if judged is None else 100 * judged / options.seconds,
            "attention": attention,
            "unigram_bpb": unigram,
            "cold_startup_seconds": first.startup_seconds,
            "mfu_percent": mfu(text, config, second, hardware.peak_tflops),
            **{k: v for k, v in asdict(second).items() if k not in ("curve", "log_tail", "extra")},
        }
        found.append(values)
        if not options.json:
            show(values)
        if not second.ok:
            say(f"{row}: {second.outcome} {second.reason}: {second.detail}")
    pairs = list(differences(found)) if options.seeds > 1 else []
    if options.json:
        values = {"hardware": hardware.to_json(), "rows": found, "differences": pairs}
        print(json.dumps(values, default=str, indent=2))
    else:
        print("\n".join(pairs))


def differences(found: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a line for each row but the first of its preset: how far apart they are at the same seeds."""
    by_row: dict[str, dict[int, float]] = {}
    for values in found:
        if values["score"] is not None:
            by_row.setdefault(values["row"], {})[values["seed"]] = values["score"]
    for row, scores in by_row.items():
        first = next(name for name in by_row if name.split()[0] == row.split()[0])
        pairs = [scores[seed] - by_row[first][seed] for seed in scores if seed in by_row[first]]
        if row != first and len(pairs) > 1:
            half = student_quantile(0.975, len(pairs) - 1) * stdev(pairs) / len(pairs) ** 0.5
            yield f"{row} - {first}: {mean(pairs):+.6f} +- {half:.6f} bpb, {len(pairs)} pairs"


def show(values: dict[str, Any]) -> None:
    """Print one row; the header before the first."""
    columns = (
        ("row", "row", "<18", ""),
        ("val_bpb", "score", ">9", ".6f"),
        ("unigram", "unigram_bpb", ">8", ".4f"),
        ("tok/s", "tokens_per_second", ">10", ",.0f"),
        ("mfu %", "mfu_percent", ">6", ".1f"),
        ("steps", "num_steps", ">6", "d"),
        ("MB", "peak_memory_mb", ">8", ",.0f"),
        ("start s", "cold_startup_seconds", ">8", ".1f"),
        ("again s", "startup_seconds", ">8", ".1f"),
        ("submit s", "submit_seconds", ">9", ".2f"),
        ("judge s", "judge_seconds", ">8", ".1f"),
        ("judge %", "judge_percent", ">7", ".1f"),
        ("total s", "total_seconds", ">8", ".1f"),
    )
    if not getattr(show, "has_header", False):
        print(" ".join(format(title, width) for title, _, width, _ in columns), flush=True)
        show.has_header = True  # type: ignore[attr-defined]
    cells = []
    for _, key, width, style in columns:
        value = values[key]
        cells.append(format("-" if value is None else format(value, style), width))
    print(" ".join(cells), flush=True)


def say(text: str) -> None:
    """Print talk to stderr."""
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    main()
