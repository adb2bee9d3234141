"""The real loop with a trainer and a proposer that are formulas: `python loop_driver.py ROOT NUM [read-only]`.

It may be killed at any instant and started again, and ends with the same record as a night nobody disturbed. With
`read-only` nobody may write in ROOT from the step of AUTORESEARCH_FAULT on, instead of a kill there.
"""

import itertools
import os
import random
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

from autoresearch.config import load_config
from autoresearch.decision import pace
from autoresearch.errors import AutoresearchError
from autoresearch.events import Progress, SessionStarted
from autoresearch.paths import RunDirectory
from autoresearch.proposer.base import Context
from autoresearch.proposer.prefetch import Ahead
from autoresearch.record.record import Record
from autoresearch.session import loop, paired, trials
from autoresearch.session.confirm import run_confirmation
from autoresearch.session.context import Limits, Parts, Stop
from autoresearch.session.loop import Loop
from autoresearch.session.run import due_confirmation, first_counted
from autoresearch.tasks.gpt import METRIC
from autoresearch.types import CurvePoint, Outcome, Proposal, Session, Setup, TrialResult, TrialSpec
from autoresearch.util import killpoints
from autoresearch.util.killpoints import reach

FILES = {
    "train.py": "LR = 1.0\n\n\n\nWIDTH = 8\n",
    "program.md": "# program\n",
    "autoresearch.toml": "",
    ".gitignore": ".autoresearch/\nresults.tsv\n",
}
SETUP = Setup("cpu", "2.13", "", 2.0, "text", "1", 128, 1000)
paired.draw_seed = itertools.count(
    1_000_001
).__next__  # the same in a run that is killed and one that is not
SLOW = {"nov21/1-0", "nov21/0-3", "nov21/0-4", "nov21/2-0"}
"""Trials that are slow: #1 and the incumbent beside it, for a while; then #2 alone."""
RATES = [1.5, 0.5, -1.0, 2.0, 2.5, 9.0, 3.0]


class FormulaExecutor:
    """Scores a train.py by its constants; best at LR 3."""

    def run(
        self,
        spec: TrialSpec,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        stop: threading.Event | None = None,
    ) -> TrialResult:
        """Pass the steps of a trial."""
        reach("snapshot_written")
        text = spec.files["train.py"].decode()
        rate = float(re.findall(r"^LR = (\S+)", text, re.MULTILINE)[0])
        reach("trial_started")
        if on_progress is not None:
            on_progress(
                Progress(
                    number=0, label=spec.label, phase="train", seconds=1, budget_seconds=2,
                    num_tokens=50 if spec.label in SLOW else 500,
                )
            )  # fmt: skip
        if stop is not None and stop.is_set():
            return TrialResult(seed=spec.seed, outcome=Outcome.TAINTED, reason="stopped")
        if rate < 0:
            return TrialResult(seed=spec.seed, outcome=Outcome.CRASH, reason="nan")
        reach("weights_in")
        score = 1.0 + 0.01 * (rate - 3.0) ** 2 + random.Random(spec.seed).gauss(0, 0.0002)
        reach("claimed")
        reach("audited")
        return TrialResult(
            seed=spec.seed, outcome=Outcome.OK, split=spec.split, score=score, claimed_score=score,
            score_se=0.0, num_audited=64, num_tokens=1000, total_seconds=2.2,
            tokens_per_second=500.0,
            curve=(CurvePoint(1.0, 500, 2.0),), log_tail="step 10\n",
        )  # fmt: skip


class FormulaProposer:
    """Proposes what the number of the experiment says."""

    kind = "search"

    def propose(self, context: Context, stop: threading.Event) -> Proposal:
        """Return the next rate on the list."""
        rate = RATES[(context.number - 1) % len(RATES)] + context.number // (len(RATES) + 1)
        return Proposal(
            description=f"LR to {rate}",
            files={"train.py": re.sub(r"^LR = .*", f"LR = {rate}", context.files["train.py"])},
            parent=context.parent,
            proposer="search",
            attachments={"prompt.md": b"x" * 2000},
        )

    def check(self) -> str:
        """Say that it works."""
        return "a formula answers"


def make(root: Path) -> Record:
    """Return the record of a run directory, made where it is missing."""
    root.mkdir(exist_ok=True)
    for path, text in FILES.items():
        if not (root / path).exists():
            (root / path).write_text(text)
    return Record.create(RunDirectory(root), "nov21", list(FILES))


def run(root: Path, num: int) -> None:
    """Begin or go on, to the end."""
    with make(root) as record, record.presence.lock():
        session = record.session()
        if session.state == "finished":
            return
        config = load_config(record.run_directory).config
        # A run that ended with an error is over; here it shall be the same night.
        first = 1 if session.stop_reason == "error" else first_counted(record, session)
        record.append(
            SessionStarted(
                metric=METRIC, tag="nov21", tip=record.tip(), setup=vars(SETUP), seed=0, proposer="search",
                limits={"first_number": first},
            ),
            commit=record.tip(),
        )  # fmt: skip
        reach("session_started")
        stop = threading.Event()
        executor = FormulaExecutor()

        def confirm(session: Session) -> object:
            due = due_confirmation(session, config, SETUP)
            return due and run_confirmation(
                record, executor, session, config, reference=due[0], candidate=due[1],
                num_trials=config.session.confirm_trials, stop=stop, emit=lambda _: None,
            )  # fmt: skip

        Loop(
            Parts(
                config=config,
                record=record,
                executor=executor,
                ahead=Ahead(FormulaProposer(), 0),
                setup=SETUP,
                hardware={},
                emit=lambda _: None,
                stop=Stop(record.run_directory, stop, Limits(experiments=num), first),
                confirm=confirm,
            )
        ).run()


def begin(environment: dict[str, str], stderr: str, *arguments: str) -> None:
    """Be the command line with these arguments, in a process that was forked."""
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(os.open(stderr, os.O_WRONLY), 2)
    sys.argv = [__file__, *arguments]
    killpoints._target = environment["AUTORESEARCH_FAULT"]
    raise SystemExit(main())


def main() -> int:
    """Run, and end as the command line does."""
    root, num, *how = sys.argv[1:]
    loop.who_else = lambda: ""
    pace.PAUSES = (0.0, 0.0)
    # The belief takes trials in the order of the clock, and a whole night here fits in a second.
    trials.now = lambda: datetime.now(UTC).isoformat()
    if how:
        forbid = ["chmod", "-R", "a-w", root]
        killpoints.os = SimpleNamespace(
            getpid=int, kill=lambda *_: subprocess.run(forbid, check=True)
        )
    try:
        run(Path(root), int(num))
    except AutoresearchError as exc:
        sys.stderr.write(f"error: {exc.message}\nhint: {exc.hint}\n")
        return exc.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
