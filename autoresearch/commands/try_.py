"""`autoresearch try`: one judged trial of the working tree, recorded nowhere."""

from typing import Annotated

import typer

from autoresearch.commands import UnsafeOption, option, state


def try_(
    ctx: typer.Context,
    seed: Annotated[int, option("--seed N", "Random seed of the trial.", min=0)] = 0,
    seconds: Annotated[float | None, option("--seconds S", "Training seconds.", min=0.1)] = None,
    is_unsafe: UnsafeOption = False,
) -> int:
    """Train and judge the files as they are in the folder, once, and record nothing.

    Refused while a session runs here, because it would disturb the session's numbers.
    """
    import threading

    from autoresearch.commands._common import require_trust
    from autoresearch.errors import Interrupted, WorkError
    from autoresearch.session.build import assemble, open_run_directory, try_working_tree
    from autoresearch.session.signals import stop_on_signals
    from autoresearch.ui.live.displays import make_display
    from autoresearch.ui.pages.show import print_trial

    mode = state(ctx).mode
    run_directory, loaded = open_run_directory({"trial.budget_seconds": seconds})
    require_trust(mode, run_directory, loaded)
    lab = assemble(run_directory, loaded, is_unsafe_allowed=is_unsafe)
    stop = threading.Event()
    display = make_display(mode, is_single=True)
    with stop_on_signals(stop, mode.say, "the trial under way ends") as terminal:
        terminal.guard(display.start)(None)
        try:
            emit = terminal.guard(display.handle)
            result = try_working_tree(lab, seed=seed, emit=emit, stop=stop)
        finally:
            terminal.guard(display.stop)(None)
    print_trial(mode, result, lab.metric)
    if stop.is_set():
        raise Interrupted
    return 0 if result.ok else WorkError.exit_code
