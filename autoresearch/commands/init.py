"""`autoresearch init` and `trust`: a run directory from templates, or from elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from autoresearch.bootstrap.presets import preset_names
from autoresearch.commands import BeginFromOption, argument, option, state


def init(
    ctx: typer.Context,
    folder: Annotated[Path, argument("FOLDER", "The run directory; made if missing.")],
    preset: Annotated[
        str,
        option(
            "--preset NAME", f"auto, which looks at the machine, or {', '.join(preset_names())}."
        ),
    ] = "auto",
    template: Annotated[
        str | None,
        option(
            "--template NAME",
            "Which train.py to start from: gpt, or compat for one of upstream's shape. [gpt]",
        ),
    ] = None,
    tag: Annotated[str | None, option("--tag TAG", "Name of the session [today's date].")] = None,
    source: BeginFromOption = None,
) -> None:
    """Make a run directory: train.py, program.md, autoresearch.toml and a git repository.

    A second run adds what is missing and overwrites nothing. In a clone of karpathy's autoresearch, or of a fork, it
    adds the two files that feed such a script, keeps your prepare.py under another name, and leaves your branch alone.
    """
    from autoresearch.bootstrap.scaffold import scaffold

    mode = state(ctx).mode
    made = scaffold(folder, preset=preset, template=template, tag=tag, source=source)
    root = made.run_directory.root
    if mode.is_json:
        mode.json(
            {
                "path": str(root),
                "tag": made.tag,
                "branch": f"autoresearch/{made.tag}",
                "preset": made.preset,
                "why": made.why,
                "written": list(made.written),
                "kept": list(made.kept),
                "ignored": list(made.ignored),
                "notes": list(made.notes),
            }
        )
        return
    if made.why:
        mode.say(f"preset {made.preset}: {made.why}")
    if made.written:
        mode.say(f"wrote {', '.join(made.written)} in `{folder}`")
    if made.kept:
        mode.say(f"left as they are: {', '.join(made.kept)}")
    for sentence in made.notes:
        mode.say(sentence)
    for sentence in made.ignored:
        mode.warn(sentence)
    if made.outer is not None:
        mode.warn(f"`{folder}` is a separate repository inside `{made.outer}`")
    mode.say(f"branch autoresearch/{made.tag}")
    here = "" if root == Path.cwd() else f"cd {folder} && "
    mode.say(f"next: {here}autoresearch prepare, then autoresearch run --hours 8", style="hint")


def trust(ctx: typer.Context) -> None:
    """Accept what autoresearch.toml says as it is now, and print it.

    `run`, `try`, `confirm` and `prepare` ask first, or without a terminal refuse, where its lines start programs, name
    variables or addresses, read text outside the folder or choose the sandbox. A change of such a line asks again.
    """
    from autoresearch.config import load_config
    from autoresearch.paths import find_run_directory
    from autoresearch.rundir.trust import trust as accept

    mode = state(ctx).mode
    run_directory = find_run_directory()
    lines = accept(run_directory, load_config(run_directory))
    if mode.is_json:
        mode.json({"path": str(run_directory.root), "trusted": lines})
        return
    for line in lines:
        mode.data(line)
    mode.say(f"{len(lines)} lines trusted" if lines else "nothing in it needs to be trusted")
