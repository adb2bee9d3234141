"""Templates, and presets: constants for train.py and settings by the memory and kind of the device.

A template is a folder in `templates`. That of a program has a `template.toml` with a `summary` and
`[settings.<section>]` of autoresearch.toml, and an evaluator, which git is not given.

A preset is one TOML file in `templates/presets` with the fields of `Preset`: `[constants]` of the gpt template,
`[settings.<section>]` of autoresearch.toml, and the device and memory it is chosen for.
"""

import difflib
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from autoresearch.errors import UsageError
from autoresearch.paths import CONFIG_NAME, PROGRAM_NAME, templates_directory

if TYPE_CHECKING:
    from autoresearch.machine.hardware import Hardware

Constant = int | float | bool | str


class Choice(NamedTuple):
    """A preset and why it fits."""

    name: str
    why: str


@dataclass(frozen=True)
class Preset:
    """Constants and settings that belong together."""

    name: str
    summary: str
    numbers: str
    """Where its numbers come from: measured on what, or reasoned from what."""
    num_params: int
    memory_gb: float
    """What training takes at its peak, on the device; on `cpu` all of the process."""
    constants: Mapping[str, Constant]
    settings: Mapping[str, Mapping[str, Any]]
    device: str = ""
    """Kind of device it is for, as `Hardware.kind`; empty: never chosen by the hardware."""
    min_memory_mb: int = 0
    """Memory of the device from which it is chosen."""
    min_tflops: float = 0.0
    """Peak in bf16 from which it is chosen; a product whose peak is unknown is judged by its capability alone."""
    min_capability: float = 0.0
    """CUDA compute capability from which it is chosen; 8.0 is the first with bfloat16."""


def preset_names() -> list[str]:
    """Return the names of all presets, sorted."""
    return sorted(p.stem for p in _folder().glob("*.toml"))


_SUMMARIES = {
    "gpt": "train a small language model from scratch; bits per byte of held-out text",
    "compat": "a train.py in the shape of karpathy's autoresearch, with the two files that feed it",
}
_PROGRAM_FILE = "template.toml"


def templates() -> dict[str, str]:
    """Return all templates by name, those of a language model first, with what each is in one line."""
    programs = sorted(p.parent.name for p in templates_directory().glob(f"*/{_PROGRAM_FILE}"))
    return {**_SUMMARIES, **{name: str(_program(name)["summary"]) for name in programs}}


def is_program(template: str) -> bool:
    """Whether a template is of a program with an evaluator; no preset is for it then."""
    return (templates_directory() / template / _PROGRAM_FILE).is_file()


def _program(template: str) -> dict[str, Any]:
    path = templates_directory() / template / _PROGRAM_FILE
    return tomllib.loads(path.read_text(encoding="utf-8"))


def load_preset(name: str) -> Preset:
    """Read a preset.

    Raises:
        UsageError: there is no preset of that name.
    """
    if name not in preset_names():
        near = "; or ".join(f"`{p.name}`: {p.summary}" for p in map(load_preset, _like(name)))
        raise UsageError(
            f"unknown preset `{name}`",
            hint=f"{f'{near}; all: ' if near else 'one of: '}auto, {', '.join(preset_names())}",
        )
    values = tomllib.loads((_folder() / f"{name}.toml").read_text(encoding="utf-8"))
    return Preset(name=name, **values)


def _like(name: str) -> list[str]:
    """Return the presets that may be meant by what is none: a card that a summary names, `rtx4090`, or a slip."""
    words = [name.lower().replace(" ", ""), *re.findall(r"\d{3,}", name)]
    said = {p: load_preset(p).summary.lower().replace(" ", "") for p in preset_names()}
    found = [p for p, text in said.items() if any(word in f"{p} {text}" for word in words)]
    return found[:2] or difflib.get_close_matches(words[0], said, n=1)


def _folder() -> Path:
    return templates_directory() / "presets"


def fitting(hardware: "Hardware") -> list[Preset]:
    """Return the presets a device can run, the largest first."""
    found = [
        p
        for p in map(load_preset, preset_names())
        if p.device == hardware.kind
        and p.min_memory_mb <= (hardware.memory_mb or 0)
        and p.min_tflops <= (hardware.peak_tflops or math.inf)
        and p.min_capability <= (hardware.capability or math.inf)
    ]
    found.sort(key=lambda p: (p.min_capability, p.min_memory_mb, p.min_tflops), reverse=True)
    return found


def choose_preset(hardware: "Hardware") -> Choice:
    """Return the preset for a device and a sentence that says why."""
    from autoresearch.types import MB_PER_GB

    chosen = fitting(hardware)[0]
    if hardware.kind == "cpu":
        why = f"no usable GPU, {hardware.cores} cores of {hardware.cpu}"
        return Choice(chosen.name, f"{why}; {hardware.note}" if hardware.note else why)
    shared = " shared with the system" if hardware.kind == "mps" else ""
    return Choice(
        chosen.name, f"{hardware.name}, {(hardware.memory_mb or 0) / MB_PER_GB:.0f} GB{shared}"
    )


def render(
    template: str,
    preset: str,
    heading: str = "",
    chosen: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, str]:
    """Return the files of a new run directory.

    Args:
        template: Name of a folder in `templates`.
        preset: Name of a preset; of no effect for a program.
        heading: First comment line of autoresearch.toml, if any.
        chosen: Section -> settings that win over those of the preset.

    Returns:
        Path in the run directory -> text: train.py, program.md, autoresearch.toml, .gitignore and
        whatever else the template has.

    Raises:
        UsageError: there is no such template or preset.
    """
    if template not in templates():
        raise UsageError(f"unknown template `{template}`", hint=f"one of: {', '.join(templates())}")
    folder = templates_directory() / template
    files = {
        ".gitignore" if p.name == "gitignore" else p.name: p.read_text(encoding="utf-8")
        for p in sorted(folder.iterdir())
        if p.is_file() and p.name != _PROGRAM_FILE
    }
    if is_program(template):
        settings = _program(template)["settings"]
        ignored = (templates_directory() / "gpt" / "gitignore").read_text(encoding="utf-8")
        files[".gitignore"] = "".join([ignored, *(f"{name}\n" for name in hidden_files(settings))])
        for section, table in (chosen or {}).items():
            settings[section] = {**settings.get(section, {}), **table}
        files[CONFIG_NAME] = _toml(
            f"Template `{template}`: {templates()[template]}.", settings, heading
        )
        return files
    values = load_preset(preset)
    if template == "gpt":
        files["train.py"] = set_constants(files["train.py"], values.constants)
    settings = dict(values.settings)
    if template == "compat":  # upstream's own has 630 lines, most of its forks have more
        settings["task"] = {"max_lines": 0}
    for section, table in (chosen or {}).items():
        settings[section] = {**settings.get(section, {}), **table}
    about = f"Preset `{preset}`: {values.summary}.\n# Its numbers are {values.numbers}"
    files[CONFIG_NAME] = _toml(about, settings, heading)
    assert PROGRAM_NAME in files
    return files


def hidden_files(settings: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the files of a program that git must not be given, by the settings of its template."""
    task = settings.get("task", {})
    return [task.get("evaluator", "evaluate.py"), *task.get("hidden", [])]


def set_constants(source: str, constants: Mapping[str, Constant]) -> str:
    """Write values into the `NAME = value  # comment` lines of a train.py, comments kept.

    Raises:
        KeyError: a constant has no such line.
    """
    for name, value in constants.items():
        pattern = re.compile(rf"^{name} = [^#\n]*?(?=\s*(?:#.*)?$)", re.MULTILINE)
        if not pattern.search(source):
            raise KeyError(name)
        source = pattern.sub(f"{name} = {value!r}", source, count=1)
    return source


def _toml(about: str, settings: Mapping[str, Mapping[str, Any]], heading: str) -> str:
    import tomli_w

    head = f"# {heading}\n" if heading else ""
    head += (
        f"# What differs from the defaults of autoresearch. {about}\n"
        "# Every setting with its meaning: the commented reference autoresearch.toml of the project.\n\n"
    )
    return head + tomli_w.dumps({k: dict(v) for k, v in settings.items()})
