"""`autoresearch demo`: the whole lab in miniature, on the CPU, without a key or a network."""

from pathlib import Path
from typing import Annotated

import typer

from autoresearch.commands import argument, option, state

MARK = "A demo, made by `autoresearch demo`; an ordinary run directory otherwise."
"""First line of a demo's autoresearch.toml: `demo` continues only what it made itself."""


def demo(
    ctx: typer.Context,
    folder: Annotated[Path, argument("FOLDER", "Folder to make.")] = Path("autoresearch-demo"),
    experiments: Annotated[
        int | None,
        option("--experiments N", "Experiments to run [5; of a program, as it says].", min=1),
    ] = None,
    template: Annotated[
        str, option("--template NAME", "What to show: gpt, or a program of `init --list`.")
    ] = "gpt",
    seconds: Annotated[
        float | None, option("--seconds S", "Training seconds per trial.", min=1)
    ] = None,
) -> int:
    """See it work in under 3 minutes: no GPU, no API key, no network.

    Prepares real text (the standard library's source), measures a baseline, tries a few ideas with a classical
    optimiser, confirms the result, and prints the session. What it leaves is an ordinary run directory.
    """
    import os
    import shlex
    import time

    from autoresearch.bootstrap.presets import is_program
    from autoresearch.bootstrap.scaffold import scaffold
    from autoresearch.commands.log import show_log
    from autoresearch.commands.prepare import prepare_and_show
    from autoresearch.commands.run import run_and_show
    from autoresearch.config import load_config
    from autoresearch.errors import PrerequisiteError, UsageError
    from autoresearch.paths import CONFIG_NAME
    from autoresearch.record.record import Record
    from autoresearch.session.build import assemble
    from autoresearch.session.context import Limits
    from autoresearch.session.run import RunOptions
    from autoresearch.ui.text import duration

    shared = state(ctx)
    mode = shared.mode
    began = time.monotonic()
    config_file = folder / CONFIG_NAME
    if folder.exists() and any(folder.iterdir() if folder.is_dir() else [folder]):
        text = config_file.read_text(encoding="utf-8") if config_file.is_file() else ""
        if MARK not in text:
            raise UsageError(
                f"`{folder}` exists and is not a demo",
                hint="name another folder: `autoresearch demo my-demo`",
            )
        mode.say(f"`{folder}` is a demo already: continuing it")
    else:
        mode.say(f"making `{folder}`")
    preset = "auto" if is_program(template) else "demo"
    made = scaffold(folder, preset=preset, template=template, tag="demo", heading=MARK)
    overrides = {"trial.budget_seconds": seconds}
    loaded = load_config(made.run_directory, overrides)
    os.chdir(made.run_directory.root)
    if loaded.config.task.kind == "gpt":
        prepare_and_show(mode, loaded.config)
    try:
        lab = assemble(made.run_directory, loaded)
    except PrerequisiteError as exc:
        if exc.kind != "sandbox_missing":
            raise
        mode.warn(
            f"{exc.message}: the demo runs without one, because `search` changes only numbers"
            " in our own program"
        )
        lab = assemble(made.run_directory, loaded, is_unsafe_allowed=True)
    record = Record.open(made.run_directory, made.tag)
    way = f"cd {shlex.quote(str(folder))}"
    flags = [*["--rebaseline"] * bool(seconds), *["--unsafe-no-sandbox"] * lab.is_unsafe]
    experiments = experiments or loaded.config.session.experiments
    options = RunOptions(Limits(experiments=experiments), flags=flags)
    code = run_and_show(shared, lab, record, options, is_end_shown=False, way=f"{way} && ")
    if code:
        return code
    show_log(mode, made.run_directory, made.tag)
    if not mode.is_quiet and not mode.is_json:
        mode.say("")
        mode.say(f"took {duration(time.monotonic() - began)}; from here:", style="heading")
        is_kept = record.session().best > 0
        for line in (
            way,
            "autoresearch diff            # what the kept changes are"
            if is_kept
            else "autoresearch show 1          # one of the ideas in full",
            f"autoresearch run {''.join(f'{flag} ' for flag in flags)}--experiments 10",
            "autoresearch init my-lab     # your own lab",
        ):
            mode.say(f"  {line}", style="command")
    return 0
