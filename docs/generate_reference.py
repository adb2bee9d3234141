"""Writes docs/reference.md from the command line and from the commented autoresearch.toml.

    python docs/generate_reference.py            # write it
    python docs/generate_reference.py --check    # exit 1 if it is not what it should be

A test runs the check.
"""

import sys
from itertools import groupby
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "reference.md"
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


def _configuration() -> list[str]:
    from autoresearch.config import described

    lines: list[str] = []
    for section, settings in groupby(described(), key=lambda d: d.section):
        rows = [(f"`{d.name}`", f"`{d.default}`", _escape(d.meaning)) for d in settings]
        lines += [f"### [{section}]", "", *_table(("setting", "default", "meaning"), rows), ""]
    return lines


def _escape(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _table(header: tuple[str, ...], rows: list[Any]) -> list[str]:
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows)]


def main() -> int:
    """Write the page, or check it."""
    text = reference()
    if "--check" not in sys.argv:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    if TARGET.is_file() and TARGET.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write("docs/reference.md is stale: run `python docs/generate_reference.py`\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
