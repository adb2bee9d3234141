"""A session with stand-ins for the trainer and the proposer; the record is real git."""

import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from stand_ins import TRAIN, FormulaExecutor, ListProposer

from autoresearch.config import load_config
from autoresearch.events import Event, Phase, Progress, SessionStarted
from autoresearch.paths import RunDirectory
from autoresearch.proposer.prefetch import Ahead
from autoresearch.record.record import Record
from autoresearch.session.context import Limits, Parts, Stop
from autoresearch.session.loop import Loop
from autoresearch.tasks.gpt import METRIC
from autoresearch.types import Session, Setup

SETUP = Setup("cpu", "2.13", "", 2.0, "text", "1", 128, 1000)


@dataclass
class Night:
    """One run directory and what a test does with it."""

    root: Path
    executor: FormulaExecutor = field(default_factory=FormulaExecutor)
    events: list[Event | Progress | Phase] = field(default_factory=list)
    listeners: list[Callable[[Event | Progress | Phase], None]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    proposer: ListProposer = field(default_factory=lambda: ListProposer([]))
    setup: Setup = SETUP

    def run(
        self,
        answers: Iterable[str | BaseException],
        *,
        experiments: int = 0,
        ahead: int = 0,
        setup: Setup = SETUP,
        confirm: Callable[[Session], object] | None = None,
        **overrides: object,
    ) -> str:
        """Run the loop over prepared answers; returns the reason it ended."""
        self.proposer = ListProposer(answers)
        run_directory = RunDirectory(self.root)
        config = load_config(run_directory, overrides).config
        with Record.open(run_directory, "t") as record, record.presence.lock():
            record.listen(self.events.append)
            first = max((e.number for e in record.session().experiments), default=0) + 1
            record.append(
                SessionStarted(
                    metric=METRIC,
                    tag="t",
                    tip=record.tip(),
                    setup=vars(setup),
                    seed=0,
                    proposer="search",
                )
            )
            return Loop(
                Parts(
                    config=config,
                    record=record,
                    executor=self.executor,
                    ahead=Ahead(self.proposer, ahead),
                    setup=setup,
                    hardware={},
                    emit=self._emit,
                    stop=Stop(run_directory, self.stop, Limits(experiments=experiments), first),
                    confirm=confirm,
                )
            ).run()

    def _emit(self, event: Event | Progress | Phase) -> None:
        self.events.append(event)
        for listener in self.listeners:
            listener(event)

    @property
    def record(self) -> Record:
        return Record.open(RunDirectory(self.root), "t")

    @property
    def session(self) -> Session:
        with self.record as record:
            return record.session()


@pytest.fixture
def night(tmp_path: Path) -> Night:
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "program.md").write_text("Find a better LR.\n")
    (tmp_path / "autoresearch.toml").write_text("")
    files = ("train.py", "program.md", "autoresearch.toml")
    with Record.create(RunDirectory(tmp_path), "t", files):
        pass
    return Night(tmp_path)
