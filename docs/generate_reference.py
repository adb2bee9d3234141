"""Writes docs/reference.md and the commented autoresearch.toml from the command line and autoresearch/config.py.

    python docs/generate_reference.py            # write them
    python docs/generate_reference.py --check    # exit 1 if one is stale

A test runs the check.
"""

import json
import sys
import textwrap
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HEAD = """\
# Every setting of autoresearch with its default. Made by `python docs/generate_reference.py`; do not edit.
# A run directory's own autoresearch.toml holds only what differs. Order of precedence:
# flags > AUTORESEARCH_<SECTION>_<KEY> > the run directory's autoresearch.toml > these defaults.
# `autoresearch run --show-config` prints each value and where it came from.
"""
VARIABLES = (
    ("AUTORESEARCH_SECTION_KEY", "any setting of the configuration, for example AUTORESEARCH_TRIAL_BUDGET_SECONDS=60"),
    ("AUTORESEARCH_CACHE_DIR", "where prepared data is stored, shared by all run directories"),
    ("AUTORESEARCH_NO_PROGRESS", "no bars, no live rows"),
    ("AUTORESEARCH_PAGER, PAGER", "the pager of log, show and diff; cat is none"),
    ("AUTORESEARCH_DEBUG", "tracebacks of errors too, as --verbose"),
    ("NO_COLOR, FORCE_COLOR", "colour never, colour always; --color wins over both"),
)  # fmt: skip


def reference() -> str:
    """Return the whole page."""
    from autoresearch.errors import EXIT_CODES

    parts = [
        "# Reference",
        "",
        "Made by `python docs/generate_reference.py` from the code; do not edit.",
        "",
        "## Commands",
        "",
        *_commands(),
        "## Exit codes",
        "",
        *_table(("code", "meaning"), [(str(code), text) for code, text in EXIT_CODES.items()]),
        "",
        "## Environment",
        "",
        "Flags win over variables, variables over the run directory's autoresearch.toml, and that over the defaults.",
        "",
        *_table(("variable", "meaning"), [(f"`{name}`", text) for name, text in VARIABLES]),
        "",
        "## Configuration",
        "",
        "A run directory's `autoresearch.toml` holds only what differs from these defaults:",
        "`autoresearch run --show-config` prints each value and where it came from.",
        "",
        *_configuration(),
        "## Presets",
        "",
        "`autoresearch init --preset NAME`, each a file in `templates/presets`; `auto` takes the largest that fits.",
        "",
        *_presets(),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _commands() -> list[str]:
    import typer

    from autoresearch.cli import app

    group: Any = typer.main.get_command(app)
    context = group.make_context("autoresearch", ["log"], resilient_parsing=True)
    lines = ["Global options stand before the verb; `--json` and `--quiet` also after it.", ""]
    lines += _options(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        arguments = [_argument(p) for p in command.params if p.param_type_name == "argument"]
        usage = " ".join(["autoresearch", name, *arguments, "[OPTIONS]"])
        help_text = [line.strip() for line in (command.help or "").strip().split("\n")]
        lines += [f"### {name}", "", f"    {usage}", "", *help_text, "", *_options(command)]
    return lines


def _argument(parameter: Any) -> str:
    name = (parameter.metavar or parameter.name).upper().strip("[]")
    return name if parameter.required else f"[{name}]"


def _options(command: Any) -> list[str]:
    rows = []
    for p in command.params:
        if p.param_type_name == "argument":
            if p.help:
                rows.append((f"`{_argument(p)}`", _escape(p.help)))
            continue
        if getattr(p, "hidden", False) or "--help" in p.opts:
            continue
        names = ", ".join(f"`{option}`" for option in sorted(p.opts, key=len))
        if not p.is_flag and not p.count:
            names += f" {p.metavar or 'TEXT'}"
        text = _escape(p.help or "")
        is_shown = p.default not in (None, False, "", 0, ()) and not callable(p.default)
        if is_shown and not p.is_flag and not isinstance(p.default, list):
            text += f" Default: {p.default}."
        rows.append((names, text))
    return [*_table(("option", "meaning"), rows), ""] if rows else []


def _sections() -> Iterator[tuple[str, list[Any]]]:
    """Yield the name of each section and its settings."""
    from autoresearch.config import described

    for section, settings in groupby(described(), key=lambda d: d.key.split(".")[0]):
        yield section, list(settings)


def _configuration() -> list[str]:
    lines: list[str] = []
    for section, settings in _sections():
        rows = [
            (f"`{d.key.split('.')[1]}`", f"`{_toml(d.default)}`", _escape(d.meaning))
            for d in settings
        ]
        lines += [f"### [{section}]", "", *_table(("setting", "default", "meaning"), rows), ""]
    return lines


def _presets() -> list[str]:
    from autoresearch.bootstrap.presets import load_preset, preset_names

    rows = []
    for p in map(load_preset, preset_names()):
        c, judge = dict(p.constants), p.settings["judge"]
        tokens: Any = c["CONTEXT"] * c["ROWS"] * c["ACCUMULATE"]  # type: ignore[operator]
        shape, seconds = f"{c['DEPTH']} x {c['WIDTH']}", p.settings["trial"]["budget_seconds"]
        numbers = (
            f"{p.num_params / 1e6:.1f} M",
            f"{c['CONTEXT']:,}",
            f"{tokens:,}",
            f"{p.memory_gb} GB",
        )
        rows.append(
            (p.name, p.summary, shape, *numbers, f"{seconds:g} s", f"{judge['eval_tokens']:,}")
        )
    names = ("preset", "device", "depth x width", "parameters", "context", "tokens per step")
    return _table((*names, "memory", "budget", "evaluation tokens"), rows)


def settings_file() -> str:
    """Return the whole commented autoresearch.toml."""
    text = HEAD
    for section, settings in _sections():
        text += f"\n[{section}]\n"
        for d in settings:
            comment = textwrap.wrap(d.meaning, 118, initial_indent="# ", subsequent_indent="# ")
            text += "\n".join([*comment, f"{d.key.split('.')[1]} = {_toml(d.default)}\n"])
    return text


def _toml(value: Any) -> str:
    is_long = isinstance(value, int) and not isinstance(value, bool) and value >= 10_000
    return f"{value:_}" if is_long else json.dumps(value)


def _escape(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _table(header: tuple[str, ...], rows: list[Any]) -> list[str]:
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows)]


def main() -> int:
    """Write the files, or check them."""
    made = {"docs/reference.md": reference(), "autoresearch.toml": settings_file()}
    for name, text in made.items():
        path = ROOT / name
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            sys.stderr.write(f"{name} is stale: run `python docs/generate_reference.py`\n")
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
