"""A night against the loopback server, through the real loop and record: `pytest tests/proposer/test_night.py`.

Trials are stand-ins that score a formula of the constants; everything else is the real thing.
"""

import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from openai_server import Say, Server, serve, tokens_of
from proposer_sample import TRAIN

from autoresearch.config import Config, load_config
from autoresearch.errors import PrerequisiteError
from autoresearch.events import Progress, SessionStarted
from autoresearch.paths import RunDirectory
from autoresearch.proposer import registry
from autoresearch.proposer.llm import errors
from autoresearch.proposer.prefetch import Ahead
from autoresearch.proposer.registry import make_proposer
from autoresearch.proposer.search import constants
from autoresearch.record.record import Record
from autoresearch.sandbox import NoSandbox
from autoresearch.session.context import Limits, Parts, Stop
from autoresearch.session.loop import Loop
from autoresearch.session.run import RunOptions, run_session
from autoresearch.tasks.gpt import METRIC
from autoresearch.types import (
    Calibration,
    CurvePoint,
    Outcome,
    Session,
    Setup,
    State,
    TrialResult,
    TrialSpec,
)
from autoresearch.ui.summary import summarize

SETUP = Setup("cpu", "2.13", "", 2.0, "d", "1", 128, 1000)
SERVER_PROMPT_TOKENS = 1000


class Formula:
    """Scores train.py by its constants, with noise by seed; takes `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.busy = 0.0

    def run(
        self,
        spec: TrialSpec,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        stop: threading.Event | None = None,
    ) -> TrialResult:
        began = time.monotonic()
        while time.monotonic() - began < self.seconds:
            if on_progress is not None:
                now = time.monotonic() - began
                on_progress(
                    Progress(
                        number=0, label=spec.label, phase="train", seconds=now, budget_seconds=2
                    )
                )
            time.sleep(min(0.02, self.seconds))
        self.busy += time.monotonic() - began
        text = spec.files["train.py"].decode()
        values = constants.parse(text).values()
        luck = random.Random(f"{spec.seed} {spec.split} {text}").gauss(0, 0.0005)
        score = (
            1.2
            + 0.3 * (values["WARMDOWN_FRAC"] - 0.8) ** 2
            + 0.5 * (values["MATRIX_LR"] - 0.02) ** 2
        )
        base = TrialResult(
            seed=spec.seed,
            outcome=Outcome.OK,
            split=spec.split,
            score=score + luck,
            claimed_score=score + luck,
            score_se=0.0,
            num_audited=64,
            num_steps=10,
            train_seconds=self.seconds,
            total_seconds=self.seconds,
            tokens_per_second=500.0,
            curve=(CurvePoint(0.0, 0, 9.0), CurvePoint(1.0, 500, 2.0)),
        )
        if values["DEPTH"] > 6:
            return replace(
                base, outcome=Outcome.CRASH, reason="oom", score=None, log_tail="CUDA oom\n"
            )
        return base


def change(body: dict[str, Any], index: int) -> str:
    """An answer that changes one constant of the train.py in the prompt, another one each time."""
    text = "".join(
        m["content"] if isinstance(m["content"], str) else "".join(p["text"] for p in m["content"])
        for m in body["messages"]
    )
    rng = random.Random(index)
    name, low, high = [("MATRIX_LR", 0.005, 0.1), ("WARMDOWN_FRAC", 0.1, 0.95), ("DEPTH", 2, 9)][
        index % 3
    ]
    line = re.findall(rf"^{name} = .*$", text, re.MULTILINE)[0]
    value = f"{rng.uniform(low, high):.4f}" if name != "DEPTH" else str(rng.randint(2, 9))
    new = re.sub(r"= \S+", f"= {value}", line, count=1)
    return (
        f"HYPOTHESIS: h{index}\nDESCRIPTION: {name} to {value} ({index})\nTHEME: {name.lower()}\nNOTE: n{index}\n"
        f"FILE: train.py\n<<<<<<< SEARCH\n{line}\n=======\n{new}\n>>>>>>> REPLACE\n"
    )


@pytest.fixture(autouse=True)
def no_sentinels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoresearch.decision.rule.SENTINEL_EVERY", 1000)


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "OUTAGE_SECONDS", 0.0)


def configured(url: str, **more: Any) -> Config:
    base = load_config(None).config
    values = {
        "kind": "llm",
        "model": "openai/loopback",
        "api_base": url,
        "price_in": 1.0,
        "price_out": 4.0,
        "timeout_seconds": 10.0,
        **more,
    }
    return base.model_copy(update={"proposer": base.proposer.model_copy(update=values)})


def night(
    folder: Path,
    config: Config,
    num: int,
    seconds: float = 0.0,
    depth: int = 0,
    max_cost: float = 0.0,
) -> tuple[Session, Formula, float, str]:
    """Run a session of `num` experiments; return it, its executor, its wall time and how it ended."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "autoresearch.toml").write_text("")
    (folder / "program.md").write_text("Lower val_bpb.\n")
    (folder / "train.py").write_text(TRAIN, encoding="utf-8")
    run_directory = RunDirectory(folder)
    stop = threading.Event()
    executor = Formula(seconds)
    with (
        Record.create(run_directory, "t", ["train.py", "program.md"]) as record,
        record.presence.lock(),
    ):
        record.append(
            SessionStarted(
                metric=METRIC,
                tag="t",
                tip=record.tip(),
                setup=vars(SETUP),
                seed=1,
                proposer="llm",
            ),
            commit=record.tip(),
        )
        parts = Parts(
            config=config,
            record=record,
            executor=executor,
            ahead=Ahead(make_proposer(config), depth),
            setup=SETUP,
            hardware={"gpu": "none"},
            emit=lambda _: None,
            stop=Stop(run_directory, stop, Limits(experiments=num, max_cost_usd=max_cost), 1),
        )
        began = time.monotonic()
        reason = Loop(parts).run()
        return record.session(), executor, time.monotonic() - began, reason


def cost_of(server: Server, answers: list[str]) -> float:
    return sum(SERVER_PROMPT_TOKENS + 4 * tokens_of(text) for text in answers) / 1e6


def test_a_night_with_faults_is_recorded_whole(tmp_path: Path) -> None:
    said: list[str] = []

    def answer(index: int, body: dict[str, Any]) -> Say:
        if index % 11 == 3:
            return Say(status=(429, 500, 401)[index % 3])
        text = "no edit here" if index % 13 == 5 else change(body, index)
        said.append(text)
        return Say(text)

    with serve(answer) as server:
        server.num_prompt_tokens = SERVER_PROMPT_TOKENS
        session, _, _, reason = night(tmp_path / "run", configured(server.url), 24)
    assert reason == "experiments"
    numbers = [e.number for e in session.experiments]
    assert numbers == list(range(len(numbers)))
    assert all(e.state in (State.JUDGED, State.ABANDONED) for e in session.experiments)
    kinds = {e.proposer for e in session.experiments}
    assert {"baseline", "llm", "search"} <= kinds
    assert session.kept
    assert session.usage.cost_usd == pytest.approx(cost_of(server, said))
    assert session.usage.num_calls == len(server.requests)
    tried = [e.identity for e in session.experiments if e.trials]
    assert len(set(tried)) == len(tried)


def test_the_prompt_of_a_late_experiment(tmp_path: Path) -> None:
    with serve(lambda index, body: Say(change(body, index))) as server:
        session, *_ = night(tmp_path / "run", configured(server.url), 12)
    prompt = server.prompt()
    assert "Lower val_bpb." in prompt
    assert "# Your own lab notes" in prompt
    assert "#1 " in prompt
    assert f"Propose experiment #{session.experiments[-1].number}" in prompt


def test_the_cost_limit_ends_the_night_before_it_is_passed(tmp_path: Path) -> None:
    with serve(lambda index, body: Say(change(body, index))) as server:
        config = configured(server.url, max_output_tokens=1000)
        session, _, _, _ = night(tmp_path / "run", config, 100, max_cost=0.012)
    assert session.usage.cost_usd is not None
    assert 0.005 < session.usage.cost_usd <= 0.012
    assert len(session.experiments) < 100


def begin(folder: Path, config: Config, monkeypatch: pytest.MonkeyPatch) -> Session:
    """Run a session as the command line does, but for the trials."""
    monkeypatch.setattr(errors, "FIRST_WAIT_SECONDS", 0.05)
    for name in (
        "autoresearch.machine.hardware.gpu_processes",
        "autoresearch.session.run.is_on_battery",
    ):
        monkeypatch.setattr(name, list)
    is_begun = (folder / "train.py").exists()
    if not is_begun:
        (folder / "autoresearch.toml").write_text("")
        (folder / "train.py").write_text(TRAIN, encoding="utf-8")
    executor: Any = Formula(0.0)
    executor.keep_caches = lambda _: None
    executor.calibration = Calibration()
    lab: Any = SimpleNamespace(
        run_directory=RunDirectory(folder),
        config=config,
        loaded=SimpleNamespace(changed=dict),
        metric=METRIC,
        task=SimpleNamespace(
            facts={"data": {}, "trivial_score": None, "is_validation_visible": False}
        ),
        hardware=SimpleNamespace(kind="cpu", to_json=dict),
        sandbox=NoSandbox(),
        is_unsafe=True,
        setup=SETUP,
        executor=executor,
    )
    options = RunOptions(Limits(experiments=1), is_confirming=False)
    with (
        Record.open(lab.run_directory)
        if is_begun
        else Record.create(lab.run_directory, "t", ["train.py"]) as record
    ):
        assert (
            run_session(lab, record, options, emit=lambda _: None, stop=threading.Event())
            == "experiments"
        )
        return record.session()


def test_an_outage_of_an_earlier_run_is_over_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "OUTAGE_SECONDS", 0.0)
    with serve(Say(status=503)) as server:
        session = begin(tmp_path, configured(server.url), monkeypatch)
    assert session.experiment(1).proposer == "search"
    assert "proposes meanwhile" in summarize(session).alerts[0].text

    def answer(index: int, body: dict[str, Any]) -> Say:
        return Say(change(body, index) if "MATRIX_LR" in str(body) else "OK")

    with serve(answer) as server:
        for model in ("openai/loopback", "openai/another"):
            session = begin(tmp_path, configured(server.url, model=model), monkeypatch)
    assert [e.proposer for e in session.experiments[1:]] == ["search", "llm", "llm"]
    assert summarize(session).alerts == ()


def test_a_lab_that_is_started_in_an_outage_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "OUTAGE_SECONDS", 60.0)
    with serve(Say(status=503), lambda index, body: Say(change(body, index))) as server:
        session = begin(tmp_path, configured(server.url), monkeypatch)
    assert session.experiment(1).proposer == "llm"
    assert [alert.is_over for alert in session.alerts] == [False, True]
    assert "`openai/loopback` is not available" in session.alerts[0].text


def test_a_server_of_this_machine_that_is_not_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(Say(status=503)) as server:
        config = configured(server.url)
    with pytest.raises(PrerequisiteError, match="cannot be reached") as caught:
        begin(tmp_path, config, monkeypatch)
    assert str(caught.value.hint).startswith(f"is a server running at `{server.url}")


def test_a_lab_whose_key_is_refused_does_not_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        serve(Say(status=401)) as server,
        pytest.raises(PrerequisiteError, match="does not accept the key"),
    ):
        begin(tmp_path, configured(server.url), monkeypatch)


@pytest.mark.slow
def test_nothing_is_idle_with_one_ahead(tmp_path: Path) -> None:
    """A proposer that takes as long as a trial: ahead keeps the device busy, in turn does not."""
    shares = []
    for depth in (0, 1):
        slow = lambda index, body: Say(change(body, index), seconds_before=0.6)  # noqa: E731
        with serve(slow) as server:
            config = configured(server.url)
            _, executor, wall, _ = night(tmp_path / f"run{depth}", config, 8, 0.9, depth)
        shares.append(executor.busy / wall)
    print(f"busy share: in turn {shares[0]:.2f}, one ahead {shares[1]:.2f}")
    assert shares[1] > shares[0] + 0.12
    assert shares[1] > 0.7


@pytest.mark.slow
def test_a_hundred_proposals(tmp_path: Path) -> None:
    said: list[str] = []

    def answer(index: int, body: dict[str, Any]) -> Say:
        if index % 17 == 9:
            return Say(status=503)
        said.append(change(body, index))
        return Say(said[-1])

    with serve(answer) as server:
        server.num_prompt_tokens = SERVER_PROMPT_TOKENS
        session, *_ = night(tmp_path / "run", configured(server.url), 100, 1.0, 1)
    assert len(session.experiments) >= 101
    assert session.usage.cost_usd == pytest.approx(cost_of(server, said))
