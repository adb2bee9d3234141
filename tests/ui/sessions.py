"""Sessions to show: empty, small, of 125 experiments, running, hostile. Fixed dates, no randomness beyond a seed."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from autoresearch.tasks.gpt import METRIC
from autoresearch.types import (
    Alert,
    Busy,
    Confirmation,
    CurvePoint,
    Decision,
    Experiment,
    Outcome,
    Session,
    Setup,
    State,
    Trial,
    TrialResult,
    Usage,
    Verdict,
)

START = datetime(2026, 11, 20, 22, 58, 0, tzinfo=UTC)
NOW = datetime(2026, 11, 21, 7, 2, 0, tzinfo=UTC)
SETUP = Setup(
    gpu="NVIDIA H100 80GB HBM3",
    torch="2.13.0",
    driver="575.57",
    budget_seconds=300.0,
    data="0f3c9a",
    judge="1",
    max_seq_len=2048,
    eval_tokens=20_971_520,
)
NOISE = 0.00025

IDEAS = [
    ("learning rate", "matrix learning rate 0.04 -> 0.05"),
    ("learning rate", "embedding learning rate 0.6 -> 0.8"),
    ("schedule", "warmdown over 0.75 of the budget"),
    ("schedule", "final learning rate fraction 0.0 -> 0.05"),
    ("batch", "total batch 2^19 -> 2^18 tokens"),
    ("attention", "RoPE base 10000 -> 200000"),
    ("attention", "short window T/8 with one long layer in five"),
    ("depth and width", "depth 8 -> 9 at the same width"),
    ("depth and width", "width 512 -> 640"),
    ("regularisation", "weight decay on value embeddings 0.001"),
    ("architecture", "value embeddings on alternate layers"),
    ("architecture", "SwiGLU instead of ReLU^2"),
    ("architecture", "bigram hash embedding, 64k rows"),
    ("initialisation", "init scale x 0.68"),
]


def iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def sha(number: int) -> str:
    return f"{(number * 2654435761 + 97) % 2**64:016x}{number:024x}"


def curve(score: float, points: int = 60, budget: float = 300.0) -> tuple[CurvePoint, ...]:
    return tuple(
        CurvePoint(
            seconds=budget * (i + 1) / points,
            num_tokens=int(499_600_000 * (i + 1) / points),
            loss=3.2 * score + 5.8 * 0.9 ** (i + 1) + 0.02 * ((i * 7) % 5 - 2),
        )
        for i in range(points)
    )


def trial(
    score: float | None,
    at: datetime,
    *,
    seed: int = 1,
    outcome: Outcome = Outcome.OK,
    reason: str = "",
    seconds: float = 300.0,
    memory: float = 44_000.0,
    speed: float = 1_660_000.0,
    log_tail: str = "",
) -> Trial:
    ok = outcome is Outcome.OK
    return Trial(
        result=TrialResult(
            seed=seed,
            outcome=outcome,
            reason=reason,
            score=score,
            claimed_score=score,
            score_se=0.00004 if ok else None,
            num_audited=2048 if ok else 0,
            num_tokens=int(speed * seconds) if ok else None,
            num_steps=953 if ok else None,
            train_seconds=seconds if ok else None,
            startup_seconds=21.5,
            submit_seconds=1.2 if ok else None,
            judge_seconds=18.0 if ok else None,
            total_seconds=seconds + 41 if ok else seconds,
            tokens_per_second=speed if ok else None,
            peak_memory_mb=memory,
            num_params=50_300_000,
            curve=curve(score) if score is not None else (),
            log_tail=log_tail,
            sandbox="bubblewrap",
        ),
        setup=SETUP.key,
        started_at=iso(at),
        event=sha(10_000 + seed),
    )


def baseline(at: datetime = START, num_trials: int = 3) -> Experiment:
    scores = [0.99790, 0.99815, 0.99765][:num_trials]
    return Experiment(
        number=0,
        commit=sha(0),
        parent="",
        state=State.JUDGED,
        description="baseline",
        proposer="baseline",
        verdict=Verdict.KEEP,
        reason="baseline",
        trials=tuple(
            trial(s, at + timedelta(seconds=350 * i), seed=i) for i, s in enumerate(scores)
        ),
        setup=SETUP.key,
        started_at=iso(at),
        judged_at=iso(at + timedelta(seconds=350 * num_trials)),
    )


def experiment(
    number: int,
    verdict: Verdict,
    *,
    score: float | None,
    incumbent: float,
    at: datetime,
    reason: str = "",
    p: float | None = None,
    description: str = "",
    theme: str = "",
    **changes: object,
) -> Experiment:
    delta = None if score is None else score - incumbent
    ok = verdict in {Verdict.KEEP, Verdict.DISCARD}
    seconds = 300.0 if ok else 97.0
    one = trial(
        score,
        at,
        seed=number,
        seconds=seconds,
        outcome=Outcome.OK
        if ok
        else Outcome.CRASH
        if verdict is Verdict.CRASH
        else Outcome.INVALID,
        reason="" if ok else reason,
        memory=79_600.0 if reason == "oom" else 44_000.0 + 10 * number,
        log_tail="" if ok else "Traceback (most recent call last):\nRuntimeError: it broke",
    )
    return replace(
        Experiment(
            number=number,
            commit=sha(number),
            parent=sha(0),
            state=State.JUDGED,
            description=description,
            proposer="llm",
            verdict=verdict,
            reason=reason,
            decision=Decision(
                action="keep" if verdict is Verdict.KEEP else "discard",
                reason=reason,
                p_real=p,
                estimate=None if delta is None else 0.7 * delta,
                low=None if delta is None else delta - 0.0004,
                high=None if delta is None else delta + 0.0004,
                delta=delta,
                noise=NOISE,
                num_trials=1,
            ),
            hypothesis="It should help because the gradient noise falls",
            theme=theme,
            usage=Usage(num_calls=1, tokens_in=48_000, tokens_out=3_100, cost_usd=0.077),
            trials=(one,),
            setup=SETUP.key,
            lines_added=3 + number % 5,
            lines_removed=1 + number % 3,
            started_at=iso(at),
            judged_at=iso(at + timedelta(seconds=345)),
        ),
        **changes,
    )


def empty() -> Session:
    return Session(tag="nov21", branch="autoresearch/nov21")


def night(num: int = 125, *, seed: int = 4, state: str = "finished") -> Session:
    """A session of `num` experiments like the published one: falling gains, few crashes."""
    rng = random.Random(seed)
    start = NOW - timedelta(seconds=350 * (num + 4))
    experiments = [baseline(start)]
    best, best_number = 0.9979, 0
    at = start + timedelta(seconds=1050)
    finds = [1.0]
    for number in range(1, num + 1):
        theme, idea = IDEAS[(number * 5 + number // 14) % len(IDEAS)]
        chance = rng.random()
        if chance < 0.06:
            reason = rng.choice(["oom", "oom", "nan", "startup_timeout"])
            e = experiment(
                number,
                Verdict.CRASH,
                score=None,
                incumbent=best,
                at=at,
                reason=reason,
                description=idea,
                theme=theme,
            )
        elif chance < 0.07:
            e = experiment(
                number,
                Verdict.INVALID,
                score=None,
                incumbent=best,
                at=at,
                reason="claim_mismatch",
                description=idea,
                theme=theme,
            )
        elif chance < 0.25:
            gain = rng.expovariate(1 / 0.0016) * max(0.15, 1 - number / num)
            p = min(0.995, 0.52 + gain / 0.0011)
            e = experiment(
                number,
                Verdict.KEEP,
                score=best - gain,
                incumbent=best,
                at=at,
                reason="gain",
                p=p,
                description=idea,
                theme=theme,
            )
            best, best_number = best - gain, number
        else:
            worse = rng.expovariate(1 / 0.0018)
            if rng.random() < 0.06:
                worse *= 30
            e = experiment(
                number,
                Verdict.DISCARD,
                score=best + worse,
                incumbent=best,
                at=at,
                reason="no_gain" if worse < 0.0008 else "worse",
                p=max(0.004, 0.4 - worse / 0.002),
                description=idea,
                theme=theme,
            )
        finds = [
            *finds[-20:],
            1.0 if e.verdict is Verdict.KEEP and e.decision.p_real > 0.8 else 0.0,
        ]
        rate = (1 + sum(finds)) / (10 + len(finds))
        e = replace(e, decision=replace(e.decision, p_find=1 - (1 - rate) ** 10))
        experiments.append(e)
        at += timedelta(seconds=350)
    wall = (NOW - start).total_seconds()
    return Session(
        tag="nov21",
        branch="autoresearch/nov21",
        experiments=tuple(experiments),
        state=state,
        stop_reason="hours",
        started_at=iso(start),
        ended_at=iso(NOW) if state == "finished" else "",
        wall_seconds=wall,
        setup=SETUP,
        setups={SETUP.key: SETUP},
        proposer="llm",
        model="openai/gpt-5.2",
        sandbox="bubblewrap",
        metric=METRIC,
        trivial_score=2.1345,
        hardware={"gpu": SETUP.gpu, "memory_mb": 81_559},
        data={"source": "hf://datasets/karpathy/climbmix-400b-shuffle", "key": "0f3c9a"},
        versions={"autoresearch": "0.1.0", "torch": "2.13.0"},
        best=best_number,
        tip=sha(best_number),
        confirmations=(
            Confirmation(
                reference=0,
                candidate=best_number,
                split="test",
                delta=(best - 0.9979) * 0.93,
                low=(best - 0.9979) * 0.93 - 0.0006,
                high=(best - 0.9979) * 0.93 + 0.0006,
                p_real=0.9999,
                num_trials=4,
                reference_score=1.0012,
                candidate_score=1.0012 + (best - 0.9979) * 0.93,
                budget_seconds=300.0,
                setup=SETUP.key,
                at=iso(NOW),
                validation_delta=(best - 0.9979) * 0.96,
            ),
        )
        if state == "finished"
        else (),
        busy=(
            Busy("train", 300.0 * (num + 3)),
            Busy("startup", 21.5 * (num + 3)),
            Busy("judge", 18.0 * (num + 3)),
            Busy("propose", 6.0 * num),
            Busy("wait", 240.0),
        ),
        other_usage=Usage(num_calls=2, tokens_in=9_000, tokens_out=40, cost_usd=0.02),
        journal=sha(99_999),
    )


def verified(num: int = 125) -> Session:
    """A night of which every kept change was left out once, and the gain tried longer and larger."""
    session = night(num)
    first = session.confirmations[0]
    kept = [e for e in session.kept if e.decision and e.decision.delta is not None]
    more = []
    for i, e in enumerate(kept):
        delta = (0.8 - 0.45 * (i % 4)) * (e.decision.delta or 0.0)
        more.append(
            replace(
                first,
                kind="each",
                reference=e.number,
                delta=delta,
                low=delta - 0.0003,
                high=delta + 0.0003,
                p_real=0.99 if delta < -0.0003 else 0.6 if delta < 0 else 0.3,
                p_carries=0.99 if delta < -0.0003 else 0.6 if delta < 0 else 0.1,
                note=f"best without #{e.number}",
                validation_delta=None,
            )
        )
    plain = replace(first, validation_delta=None)
    lasting, shrunk = 0.6 * first.delta, 0.02 * first.delta
    longer = replace(
        plain, kind="longer", budget_seconds=1800.0,
        delta=lasting, low=lasting - 0.0015, high=lasting + 0.0015,
    )  # fmt: skip
    larger = replace(
        plain, kind="larger", note="DEPTH=12",
        delta=shrunk, low=shrunk - 0.0014, high=shrunk + 0.0014,
    )  # fmt: skip
    return replace(session, confirmations=(*session.confirmations, longer, larger, *more))


def running() -> Session:
    """A session with one experiment under trial and a proposal waiting."""
    session = night(18, state="running")
    at = NOW - timedelta(seconds=192)
    current = Experiment(
        number=19,
        commit=sha(19),
        parent=session.tip,
        state=State.RUNNING,
        description="RoPE base 200000 -> 400000",
        proposer="llm",
        theme="attention",
        started_at=iso(at),
        lines_added=1,
        lines_removed=1,
    )
    waiting = replace(
        current,
        number=20,
        commit=sha(20),
        state=State.PROPOSED,
        description="QK norm gain 1.0 -> 1.2",
    )
    return replace(session, experiments=(*session.experiments, current, waiting), stop_reason="")


HOSTILE = [
    "[red]markup[/red] [bold]list[int][/bold] :smile: [link=file:///etc/passwd]x[/link]",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b[2J\x1b[H cleared \x9b31m",
    "first line\nsecond line\r\nthird\tcolumn\x00\x07\x08",
    "emoji \U0001f680\U0001f468\u200d\U0001f469\u200d\U0001f467 and wide \u6df1\u5c42\u5b66\u4e60 text",
    "right to left \u202egnitirw \u202c \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "<script>alert('x')</script><img src=x onerror=alert(1)> & \"quotes\"",
    "very long " + "word " * 400,
    "x" * 900,
    "{{ 7 * 7 }} {% raw %} ${HOME} `id` $(id)",
    "combining e\u0301\u0301\u0301\u0301 zalgo Z\u0351\u036b\u0343",
]


def hostile() -> Session:
    """Descriptions, reasons and log tails that try to break a screen."""
    session = night(len(HOSTILE))
    experiments = [session.experiments[0]]
    for e, text in zip(session.experiments[1:], HOSTILE, strict=True):
        trials = tuple(replace(t, result=replace(t.result, log_tail=text * 3)) for t in e.trials)
        experiments.append(
            replace(e, description=text, hypothesis=text, theme=text[:40], trials=trials)
        )
    return replace(
        session,
        experiments=tuple(experiments),
        model="[bold]evil[/bold]\x1b[31m/model",
        alerts=(Alert("<b>\x1b[5mblink\x1b[0m</b>\nnext", iso(NOW), "autoresearch revert 3"),),
        is_unsafe=True,
    )
