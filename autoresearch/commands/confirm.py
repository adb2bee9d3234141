"""`autoresearch confirm`: is the gain real, on fresh seeds and on the test split."""

from typing import Annotated

import typer

from autoresearch.commands import TagOption, UnsafeOption, experiment_argument, option, state


def confirm(
    ctx: typer.Context,
    reference: Annotated[str, experiment_argument("A")] = "baseline",
    candidate: Annotated[str, experiment_argument("B")] = "best",
    trials: Annotated[int | None, option("--trials -n N", "Trials of each version.", min=2)] = None,
    is_each: Annotated[
        bool, option("--each", "Leave each kept change out of the best, one at a time.")
    ] = False,
    minutes: Annotated[
        float | None, option("--minutes M", "Train each trial for M minutes.", min=0.01)
    ] = None,
    changes: Annotated[
        list[str] | None, option("--set NAME=NUMBER", "Set a constant in both; repeatable.")
    ] = None,
    tag: TagOption = None,
    is_unsafe: UnsafeOption = False,
) -> int:
    """Train A and B in turns on the same fresh seeds, and compare them on the test split.

    No decision has used that split, so no luck was selected into its numbers. `--minutes 30` and `--set DEPTH=12`
    ask whether the gain holds for a longer training or a larger model.
    """
    import threading

    from autoresearch.commands._common import require_trust
    from autoresearch.errors import Interrupted, UsageError, WorkError
    from autoresearch.record.record import Record
    from autoresearch.session.build import assemble, open_run_directory
    from autoresearch.session.confirm import ConfirmOptions, confirm_session, parse_changes
    from autoresearch.session.signals import stop_on_signals
    from autoresearch.ui.live.displays import make_display
    from autoresearch.ui.pages.confirmation import print_confirmations

    if is_each and (minutes or changes or (reference, candidate) != ("baseline", "best")):
        raise UsageError(
            "`--each` takes no experiments, `--minutes` or `--set`",
            hint="it leaves each kept change out of the best: `autoresearch confirm --each`",
        )
    options = ConfirmOptions(
        reference, candidate, trials, is_each, minutes, parse_changes(changes or [])
    )
    mode = state(ctx).mode
    run_directory, loaded = open_run_directory()
    require_trust(mode, run_directory, loaded)
    record = Record.open(run_directory, tag)
    record.check_fetched()
    lab = assemble(run_directory, loaded, is_unsafe_allowed=is_unsafe)
    num_alerts = len(record.session().alerts)
    stop = threading.Event()
    display = make_display(mode, is_single=True)
    promise = "the trial under way is run again next time"
    with stop_on_signals(stop, mode.say, promise) as terminal:
        terminal.guard(display.start)(None)
        try:
            emit = terminal.guard(display.handle)
            found = confirm_session(lab, record, options, emit=emit, stop=stop)
        finally:
            terminal.guard(display.stop)(None)
    session = record.session()
    print_confirmations(mode, session, found, session.alerts[num_alerts:])
    if stop.is_set() and not found:
        mode.say(
            "what was trained is recorded; the same command continues from there", style="hint"
        )
        raise Interrupted
    return 0 if found else WorkError.exit_code
