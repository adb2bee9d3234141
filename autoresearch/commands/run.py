"""`autoresearch run`: start or resume the session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from autoresearch.commands import (
    BeginFromOption,
    State,
    TagOption,
    UnsafeOption,
    option,
    option_of,
    state,
)

if TYPE_CHECKING:
    from autoresearch.config import ProposerConfig
    from autoresearch.record.record import Record
    from autoresearch.session.build import Lab
    from autoresearch.session.run import RunOptions


def run(
    ctx: typer.Context,
    hours: Annotated[float | None, option_of("session.hours")] = None,
    until: Annotated[str | None, option("--until HH:MM", "Stop at this time of day.")] = None,
    experiments: Annotated[int | None, option_of("session.experiments")] = None,
    max_cost: Annotated[float | None, option_of("session.max_cost")] = None,
    tag: TagOption = None,
    source: BeginFromOption = None,
    proposer: Annotated[str | None, option_of("proposer.kind")] = None,
    model: Annotated[str | None, option_of("proposer.model")] = None,
    ahead: Annotated[int | None, option_of("proposer.ahead")] = None,
    is_rebaseline: Annotated[
        bool, option("--rebaseline", "Measure the best again after hardware or data changed.")
    ] = False,
    is_unconfirmed: Annotated[
        bool, option("--no-confirm", "Skip the confirmation at the end.")
    ] = False,
    is_unsafe: UnsafeOption = False,
    is_waiting_for_gpu: Annotated[
        bool, option("--wait-gpu", "Wait until no other process uses the GPU.")
    ] = False,
    notify: Annotated[str | None, option_of("session.notify")] = None,
    is_config_shown: Annotated[
        bool,
        option(
            "--show-config", "Print each setting, its source and, piped, its meaning, and exit."
        ),
    ] = False,
    is_dry: Annotated[
        bool, option("--dry-run", "Print what the proposer would be asked, and exit.")
    ] = False,
) -> int:
    """Start or resume the session: propose, train, judge, keep or discard, all night.

    Ends at the first limit reached, or with exit code 3 when the proposer can give no more ideas. Ctrl-C ends the
    trial under way, which the next `run` repeats, and prints the command that resumes. A closed terminal does not
    end it.
    """
    from autoresearch.errors import UsageError
    from autoresearch.proposer.registry import named
    from autoresearch.session.build import open_run_directory

    if max_cost == 0:
        raise UsageError(
            "`--max-cost 0` would be no limit",
            hint="to spend nothing: `--proposer search`; for no limit leave it out, or set `max_cost = 0` in"
            " autoresearch.toml",
        )
    shared = state(ctx)
    overrides: dict[str, object] = {
        "session.hours": hours,
        "session.experiments": experiments,
        "session.max_cost": max_cost,
        "session.notify": None if notify is None else words_of(notify),
        "proposer.ahead": ahead,
    }
    meant = {} if proposer is None else named(proposer)
    if model is not None:
        if "model" in meant:
            raise UsageError(
                f"`--proposer {proposer}` names the model already, `--model {model}` another",
                hint="give one of them",
            )
        meant["model"] = model
    overrides |= {f"proposer.{name}": value for name, value in meant.items()}
    run_directory, loaded = open_run_directory(overrides)
    check_has_effect(loaded.config.proposer, model, max_cost)
    if is_config_shown:
        from autoresearch.ui.pages.listings import print_settings

        print_settings(shared.mode, loaded)
        return 0
    from autoresearch.commands._common import require_trust
    from autoresearch.record.record import Record
    from autoresearch.record.sessions import begin_from
    from autoresearch.session.build import assemble
    from autoresearch.session.context import Limits, limit_seconds
    from autoresearch.session.run import RunOptions

    config = loaded.config
    if not is_dry:
        require_trust(shared.mode, run_directory, loaded)
    if source is not None:
        if is_dry:
            raise UsageError(
                "`--dry-run` changes nothing and `--from` begins a session",
                hint=f"begin it first: `autoresearch init . --from {source} --tag NAME`",
            )
        if tag is None:
            raise UsageError(
                "`--from` needs the name of the new session",
                hint="for example `autoresearch run --tag second --from best`",
            )
        begin_from(run_directory, tag, source).close()
    record = Record.open(run_directory, tag)
    record.check_fetched()
    limits = Limits(
        seconds=limit_seconds(config.session.hours, until),
        experiments=config.session.experiments,
        max_cost_usd=config.session.max_cost,
    )
    if is_dry:
        from autoresearch.session.run import preview_next

        preview = preview_next(run_directory, loaded, record, limits)
        if shared.mode.is_json:
            shared.mode.json(preview.to_json())
        else:
            shared.mode.data("\n".join(preview.lines()))
        return 0
    is_until = until is not None and limits.seconds != config.session.hours * 3600
    given = {
        "--proposer": proposer,
        "--model": model,
        "--ahead": ahead,
        "--until": until if is_until else None,
        "--no-confirm": is_unconfirmed,
        "--unsafe-no-sandbox": is_unsafe,
        "--wait-gpu": is_waiting_for_gpu,
    }
    flags = [
        word
        for flag, value in given.items()
        if value is not None and value is not False
        for word in ((flag,) if value is True else (flag, str(value)))
    ]
    shared.mode.say(
        "starting: opens the data, looks at the device, tests the sandbox", style="muted"
    )
    lab = assemble(run_directory, loaded, is_unsafe_allowed=is_unsafe)
    options = RunOptions(
        limits,
        is_rebaseline=is_rebaseline,
        is_confirming=not is_unconfirmed,
        is_waiting_for_gpu=is_waiting_for_gpu,
        flags=flags,
    )
    return run_and_show(shared, lab, record, options)


def words_of(notify: str) -> list[str]:
    """Return the command and arguments of `--notify`, split as a shell does.

    Raises:
        UsageError: a quotation mark is not closed.
    """
    import shlex

    from autoresearch.errors import UsageError

    try:
        return shlex.split(notify)
    except ValueError as exc:
        problem = str(exc)
        raise UsageError(
            f"`--notify {notify}`: {problem[0].lower()}{problem[1:]}",
            hint='it is split into words as by a shell: give an apostrophe as `"it\'s"`, or write a script',
        ) from exc


def check_has_effect(settings: ProposerConfig, model: str | None, max_cost: float | None) -> None:
    """Refuse `--model` where no proposer asks a model, and `--max-cost` where none costs money.

    Raises:
        UsageError: names the proposers, and what would do what was asked for.
    """
    from autoresearch.errors import UsageError
    from autoresearch.proposer.registry import KINDS, asks_model, kinds_of

    kinds = kinds_of(settings)
    if max_cost is not None and kinds == ("search",):
        raise UsageError(
            f"`--max-cost {max_cost:g}` has no effect: `search` proposes, which costs nothing",
            hint=f"leave it out, or name an agent: `autoresearch run --proposer claude --max-cost {max_cost:g}`",
        )
    if model is None or asks_model(settings):
        return
    hint = f"to ask it for ideas: `autoresearch run --proposer llm --model {settings.model}`"
    hint = "; ".join([hint, *(KINDS[kind].model_hint for kind in kinds if KINDS[kind].model_hint)])
    raise UsageError(
        f"`--model {settings.model}` has no effect: `{' and '.join(kinds)}` asks no model",
        hint=hint,
    )


def run_and_show(
    shared: State,
    lab: Lab,
    record: Record,
    options: RunOptions,
    *,
    is_end_shown: bool = True,
    way: str = "",
) -> int:
    """Run a session under the display that fits the terminal and return the exit code.

    Args:
        shared: The global flags.
        lab: Parts and settings.
        record: Of the session.
        options: What the user asked for.
        is_end_shown: Whether to end with the summary of the session.
        way: What to type before the command that resumes, where the user is in another folder.
    """
    import threading

    from autoresearch.errors import SESSION_EXIT_CODES, Interrupted
    from autoresearch.events import SessionStarted, VerdictGiven
    from autoresearch.session.run import run_session
    from autoresearch.session.signals import stop_on_signals
    from autoresearch.ui.live.displays import AnyEvent, make_display
    from autoresearch.ui.summary import resume_command

    mode = shared.mode
    if lab.is_unsafe:
        mode.warn("trials run without a sandbox: unread code can read your files and keys")
    stop = threading.Event()
    display = make_display(mode, is_end_shown=is_end_shown)
    resume = ""  # known before it is needed: the record cannot be read while a signal is handled

    def show(event: AnyEvent) -> None:
        nonlocal resume
        if isinstance(event, SessionStarted | VerdictGiven):
            resume = way + resume_command(record.session())
        display.handle(event)

    with stop_on_signals(stop, mode.say, resume=lambda: resume) as terminal:
        terminal.guard(display.start)(record.session)
        try:
            reason = run_session(lab, record, options, emit=terminal.guard(show), stop=stop)
        finally:
            terminal.guard(display.stop)(record.session() if resume else None)
        if reason in ("interrupted", "proposer"):
            line = way + resume_command(record.session())
            terminal.guard(mode.say)(f"continue with `{line}`")
        if reason == "interrupted":
            raise Interrupted
    return SESSION_EXIT_CODES.get(reason, 0)
