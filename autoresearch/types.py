"""Shared data types: frozen dataclasses and enums.

Units are in the names. A missing number is None, never 0. Deltas are candidate minus reference; which sign is
better follows from the direction of the metric.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Literal, Self


class Verdict(StrEnum):
    """Final status of an experiment."""

    KEEP = "keep"
    DISCARD = "discard"
    CRASH = "crash"
    INVALID = "invalid"
    HELD = "held"
    """It would be kept, and waits for the user's word: shown as `keep (held)`; the branch stays as it is."""


class Reason(StrEnum):
    """Why a proposal was refused untried, or why the keep rule decided as it did.

    A record also holds reasons that a trial or the judge gave.
    """

    text: str
    """The sentence that explains it, with names in braces to fill in."""

    def __new__(cls, value: str, text: str = "") -> Self:
        """Return the member of this value, which is what the record stores."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.text = text
        return member

    GAIN = "gain", "{chance}"
    SIMPLER = "simpler", "equal within the noise, and fewer lines"
    DOUBTFUL = "doubtful", "{chance}, so it is tested again"
    MEMORY = "memory", "{chance}, but its memory must be worth {memory:.6f}"
    NO_GAIN = "no_gain", "{chance}"
    WORSE = "worse", "{chance}"
    IMPLAUSIBLE = "implausible", "it takes off more than ideas do, so it is held for you; {unseen}"
    """Of a keep that is held."""
    REJECTED = "rejected", "rejected by the user"
    """Of a keep that was held."""
    NO_SCORE = "no_score"
    SLOW = "slow"
    """Its training was ended for its speed: recorded as a crash, shown as `stopped: too slow`."""
    EDIT_FAILED = "edit_failed", "{problem}"
    OUT_OF_SCOPE = "out_of_scope_edit", "{names} may not be changed, only {allowed}"
    NO_OP = "no_op", "the change touches at most comments or formatting: nothing that runs differs"
    SEED_ONLY = (
        "seed_only",
        "the change touches only random seeds: the lab sets those, luck is not a gain",
    )
    SYNTAX = "syntax", "`{path}` is not valid Python{problem}"
    """Said to the model only: recorded as `edit_failed`."""
    TOO_LONG = "too_long", "`{path}` would have {size}, at most {most} are allowed"
    DUPLICATE = "duplicate", "{which} exactly these files"
    NO_ANSWER = "no_answer", "{problem}"
    """Nothing to try was given. No experiment: the proposer is asked again later."""


_ORDINARY = ("", Reason.NO_GAIN, Reason.WORSE)


def said(verdict: str, reason: str) -> str:
    """Return verdict and reason in words; the ordinary reasons of a discard are left out."""
    if verdict == Verdict.KEEP:
        return "keep simpler" if reason == Reason.SIMPLER else "keep"
    if verdict == Verdict.HELD:
        return "keep (held)"
    if verdict == Verdict.CRASH and reason == Reason.SLOW:
        return "stopped: too slow"
    return verdict if reason in _ORDINARY else f"{verdict} {reason}"


class State(StrEnum):
    """Where an experiment stands."""

    PROPOSED = "proposed"
    RUNNING = "running"
    JUDGED = "judged"
    ABANDONED = "abandoned"


class Outcome(StrEnum):
    """How one trial ended; only `OK` has a score, `TAINTED` is repeated and never counts."""

    OK = "ok"
    CRASH = "crash"
    INVALID = "invalid"
    TAINTED = "tainted"


class Purpose(StrEnum):
    """Why a trial is run."""

    CANDIDATE = "candidate"
    """An idea for the first time; audited where it could be kept, and by chance."""
    RETEST = "retest"
    """An idea in doubt on another seed."""
    ALARM = "alarm"
    """An idea that takes off more than ideas do: on another seed, and audited on text that no claim saw too."""
    BASELINE = "baseline"
    """The code at the tip while no proposer wrote any of it: judging may use what it compiled."""
    INCUMBENT = "incumbent"
    """The code at the tip with kept ideas in it: for its level, under another setup, or for drift."""
    CHECK = "check"
    """The incumbent after a slow candidate, to tell whether the machine is what is slow."""
    PACE = "pace"
    """The incumbent to its end on a machine that stays slow: the pace from now on."""
    CONFIRM = "confirm"
    """On a fresh seed for a confirmation; the loop never looks at it."""
    TRY = "try"
    """The files of the working tree, for `autoresearch try`; not recorded."""

    @property
    def is_of_tip(self) -> bool:
        """Whether it runs the code at the tip of the branch.

        Compile caches it writes before `start()` are kept, and what all trials are measured by (tolerance,
        submit time, reference of audits) is learnt from it.
        """
        return self in (Purpose.BASELINE, Purpose.INCUMBENT) or self.is_of_speed

    @property
    def is_of_speed(self) -> bool:
        """Whether it only answers for the speed of a candidate."""
        return self in (Purpose.CHECK, Purpose.PACE)


MB = 2**20
"""Bytes of an MB wherever one is set, measured or shown: as memory is sold, and as nvidia-smi and `ls -h` count."""
MB_PER_GB = 1024
GB = MB_PER_GB * MB
LARGEST = {int: 10**12, float: 1e8}
"""Largest value of a setting where nothing less is said: what times, memory and files are counted in holds it."""

Split = Literal["validation", "test"]
Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True)
class Metric:
    """What a score is: the figure by which the experiments of a session are compared."""

    name: str = "score"
    """On the validation split."""
    unit: str = ""
    direction: Direction = "minimize"
    decimals: int = 6
    """Of a score in full; screens show fewer where the noise allows no more."""
    trivial: str = ""
    """What reaches `Run.trivial_score`, for a sentence: `counting tokens alone`."""

    @property
    def sign(self) -> int:
        """1 where less is better, else -1: a score times it is a loss."""
        return 1 if self.direction == "minimize" else -1

    @property
    def better(self) -> str:
        """The word of the good side, `lower` or `higher`."""
        return "lower" if self.direction == "minimize" else "higher"

    @property
    def title(self) -> str:
        """Name, unit and good side, for a heading: `val_bpb, bits per byte, lower is better`."""
        return ", ".join(filter(None, (self.name, self.unit, f"{self.better} is better")))

    def on(self, split: str) -> str:
        """Return what a score on `split` is called."""
        return f"test_{self.name.removeprefix('val_')}" if split == "test" else self.name


ConfiguredProposer = Literal["search", "llm", "command"]
ProposerKind = Literal[ConfiguredProposer, "human", "baseline", ""]
"""Who had an idea; empty where a file of others does not say."""


@dataclass(frozen=True)
class Usage:
    """What proposing cost. `cost_usd` is None when the price is unknown."""

    num_calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    cost_usd: float | None = None
    seconds: float = 0.0

    def __add__(self, other: "Usage") -> "Usage":
        """Return the sum; the cost is unknown only if both are."""
        costs = [u.cost_usd for u in (self, other) if u.cost_usd is not None]
        return Usage(
            num_calls=self.num_calls + other.num_calls,
            tokens_in=self.tokens_in + other.tokens_in,
            tokens_out=self.tokens_out + other.tokens_out,
            tokens_cached=self.tokens_cached + other.tokens_cached,
            cost_usd=sum(costs) if costs else None,
            seconds=self.seconds + other.seconds,
        )


@dataclass(frozen=True, kw_only=True)
class Idea:
    """What a proposer says of a change; declared once for the proposal, its event and the experiment."""

    description: str
    parent: str
    """Sha of the commit the change was made against."""
    proposer: ProposerKind
    model: str = ""
    """The model or the command that had the idea, where it was one."""
    hypothesis: str = ""
    expected_effect: str = ""
    theme: str = ""
    note: str = ""
    """A line for the agent's own lab notes."""
    parameters: Mapping[str, float] = field(default_factory=dict)
    """Constants a `search` proposal set, by name."""
    usage: Usage = Usage()


@dataclass(frozen=True, kw_only=True)
class Proposal(Idea):
    """An idea, ready to be tried: the whole text of every editable file after the change."""

    files: Mapping[str, str]
    """Editable path -> full new text."""
    attachments: Mapping[str, bytes] = field(default_factory=dict)
    """Small files stored with the proposal: `prompt.md`, `reply.md`."""


@dataclass(frozen=True, kw_only=True)
class Candidate(Idea):
    """An idea in the record, with its number and its commit."""

    number: int
    commit: str
    """The candidate commit, for a kept experiment the one on the branch; `""` if none was made."""
    identity: str = ""
    """Hash of the editable files: two ideas with the same one are duplicates."""
    lines_added: int = 0
    lines_removed: int = 0


@dataclass(frozen=True)
class CurvePoint:
    """One point of a training curve."""

    seconds: float
    """Of the budget, by the lab's clock."""
    num_tokens: int
    loss: float | None
    values: Mapping[str, float] = field(default_factory=dict)
    """Whatever else train.py logged; reported by the child, never believed."""


@dataclass(frozen=True)
class TrialSpec:
    """What an executor needs to run one trial; plain data, so that it can travel."""

    files: Mapping[str, bytes]
    """The snapshot: path -> content, from a git tree, never from the working tree."""
    seed: int
    budget_seconds: float
    split: Split = "validation"
    purpose: Purpose = Purpose.CANDIDATE
    audit_below: float | None = None
    """Audit when the claimed score is better than this; None: always."""
    incumbent_score: float | None = None
    """Score of the incumbent: a claim too far below it is implausible; None: not known."""
    part: int = 0
    """Of the test split: which rows are judged; another number, other rows, as far as there are any."""
    noise: float | None = None
    """Noise of the session: the audit is sized to catch leaks worth twice this; None: not known."""
    reference: Mapping[str, bytes] | None = None
    """Files of the incumbent, where a task may run it beside the candidate, or to tell whose fault a failure is."""
    anchor: float | None = None
    """Score of the reference, to which a paired task adds the difference; None: its own in this trial."""
    cases_seed: int | None = None
    """What a task draws its cases by; None: it draws by chance."""
    num_cases: int | None = None
    """Cases that the incumbent was scored on; None: not known."""
    guarded: Mapping[str, float] = field(default_factory=dict)
    """Figures of the baseline by name, for guards against it."""
    number: int = 0
    """Of the experiment."""
    label: str = ""
    """For logs and folders: `nov21/12-0` is the first trial of experiment 12 of session nov21."""
    keep_weights: bool = False


CASES_SEED, NUM_CASES, REFERENCE_SCORE, FIGURES = (
    "cases_seed",
    "num_cases",
    "reference_score",
    "figures",
)
"""Keys in `TrialResult.extra` of tasks with cases: what they were drawn by, how many there were, the score of the
reference beside which a trial was run, and means of further figures by name."""
REPORTED = "reported by the program"
"""Source of a session's data where nothing checks the score."""
WEIGHTS_LOST = "weights_lost"
"""Key in `TrialResult.extra`: why weights that were to be kept could not be saved."""


@dataclass(frozen=True)
class TrialResult:
    """What one trial gave, by the lab's own clock, counters and judge."""

    seed: int
    outcome: Outcome
    reason: str = ""
    """`oom`, `nan`, ... for a crash; `claim_mismatch`, ... for an invalid one; else empty."""
    detail: str = ""
    """One sentence with the size of what was found; safe to show to the agent."""
    split: Split = "validation"
    score: float | None = None
    """On `split`, in units of the metric, by the judge."""
    is_maximized: bool = False
    """More is better: of the metric, so that a result can be compared without its session."""
    claimed_score: float | None = None
    score_se: float | None = None
    """Standard error of `score` that the judge knows of; None where it knows none (for `gpt`: no audit)."""
    num_audited: int = 0
    num_tokens: int | None = None
    """Training tokens served by the feeder."""
    num_steps: int | None = None
    """Batches served: one for each item of `batches()`, however many of them train.py accumulates."""
    train_seconds: float | None = None
    startup_seconds: float | None = None
    submit_seconds: float | None = None
    judge_seconds: float | None = None
    total_seconds: float | None = None
    tokens_per_second: float | None = None
    peak_memory_mb: float | None = None
    """Device memory on a GPU, resident memory of the process tree on a CPU."""
    num_params: int | None = None
    curve: tuple[CurvePoint, ...] = ()
    log_tail: str = ""
    """Last lines the child printed; untrusted text, control characters removed."""
    sandbox: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further figures of the judge and the host, JSON values only."""

    @property
    def ok(self) -> bool:
        """Whether the trial has a score that counts."""
        return self.outcome is Outcome.OK and self.score is not None

    @property
    def loss(self) -> float | None:
        """The score, signed so that less is better."""
        return -self.score if self.is_maximized and self.score is not None else self.score


@dataclass(frozen=True)
class Calibration:
    """What good trials of the code at the tip measured; all trials of their setup are held to it."""

    submit_seconds: float | None = None
    """What handing over the weights took."""
    tolerance: float | None = None
    """Of audits, in nats."""
    noise_nats: float = 0.0
    """Standard deviation of honest audited minus claimed."""

    def learnt_from(self, result: TrialResult) -> "Calibration":
        """Return what is known after one more such trial; what was known stays."""
        found = self
        if self.submit_seconds is None:
            found = replace(found, submit_seconds=result.submit_seconds)
        if self.tolerance is None and "tolerance" in result.extra:
            noise = float(result.extra.get("difference_sd", 0.0))
            found = replace(found, tolerance=float(result.extra["tolerance"]), noise_nats=noise)
        return found


@dataclass(frozen=True)
class Decision:
    """The answer of the keep rule for one experiment, with every number it rests on."""

    action: Literal["keep", "discard", "retest"]
    reason: str
    """`gain`, `simpler`, `no_gain`, `worse`, `memory`, ..."""
    p_real: float | None = None
    """Posterior probability that the true effect is an improvement."""
    estimate: float | None = None
    """Posterior mean of the true effect in units of the metric, candidate minus incumbent."""
    low: float | None = None
    high: float | None = None
    """Central 90 % interval of the effect."""
    delta: float | None = None
    """`level` minus that which its incumbent has by its own verdict."""
    noise: float | None = None
    """Standard deviation between trials of the same code, in units of the metric."""
    num_trials: int = 0
    explanation: str = ""
    """One sentence for the user."""
    mark: str = ""
    """What limits the trust in this measurement (a shared or slowed machine); empty if nothing does."""
    p_find: float | None = None
    """Probability that the next ten experiments bring a gain above half the noise."""
    level: float | None = None
    """Its score as measured, at the usual pace; of code that stood already as believed."""


@dataclass(frozen=True)
class Doubt:
    """Why a discarded idea was opened again: the machine had moved by then, as its incumbent showed later."""

    p_real: float
    """Probability that it improves on its parent, now that this is known."""
    shift: float
    """What the machine added to its trials so far beyond what it adds since; in units of the metric."""
    sd: float
    """Standard deviation of `shift`."""
    judged_place: int = 0
    """Of the verdict that no longer holds, in the journal."""
    place: int = 0
    """Of the event that opened it again."""


@dataclass(frozen=True)
class Setup:
    """What makes numbers comparable; numbers of different setups are never subtracted."""

    gpu: str
    torch: str
    driver: str
    budget_seconds: float
    data: str
    judge: str
    max_seq_len: int
    eval_tokens: int
    attention: str = ""
    """What the attention ladder chose, once per setup."""
    context: int = 0
    """Tokens of context when judging; 0: `max_seq_len`."""

    @property
    def key(self) -> str:
        """A short hash of all fields but `attention`, which follows from them; a `context` of 0 is left out."""
        import hashlib
        import json

        left_out = {"attention"} if self.context else {"attention", "context"}
        fields = {k: v for k, v in vars(self).items() if k not in left_out}
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def differences(self, other: "Setup") -> list[str]:
        """Return `name: ours -> theirs` for each field in which two setups differ."""
        ours, theirs = (
            {**vars(setup), "context": setup.context or setup.max_seq_len}
            for setup in (self, other)
        )
        return [
            f"{name}: {value} -> {theirs[name]}"
            for name, value in ours.items()
            if name != "attention" and value != theirs[name]
        ]


@dataclass(frozen=True)
class Trial:
    """A recorded trial: its result, when, under which setup, and where its files are."""

    result: TrialResult
    setup: str
    started_at: str
    """UTC, ISO 8601."""
    event: str
    """Sha of the journal commit that holds `curve.json` and `log.txt`."""
    confirmation: str = ""
    """Identity of the confirmation it belongs to; empty for a trial of the loop."""
    purpose: str = ""
    """A `Purpose`; empty in records of earlier versions."""
    place: int = 0
    """Of its event in the journal, from 1; 0 where no journal holds it."""

    def is_of_loop(self, setup: str) -> bool:
        """Whether the loop ran it under `setup`; confirmations are no part of it."""
        return not self.confirmation and self.setup == setup

    def counts(self, setup: str) -> bool:
        """Whether its score counts for its experiment: on validation, under `setup`, of the loop itself."""
        return self.result.ok and self.result.split == "validation" and self.is_of_loop(setup)


@dataclass(frozen=True, kw_only=True)
class Experiment(Candidate):
    """One numbered idea as the record knows it. #0 is the baseline."""

    state: State
    verdict: Verdict | None = None
    reason: str = ""
    decision: Decision | None = None
    trials: tuple[Trial, ...] = ()
    setup: str = ""
    started_at: str = ""
    judged_at: str = ""
    event: str = ""
    """Sha of the proposal's journal commit (prompt.md, reply.md)."""
    reverted_by: str = ""
    """Sha of the commit that undid it; empty if it stands."""
    is_approved: bool = False
    """The user released it after it was held."""
    judged_place: int = 0
    """Of its verdict in the journal, from 1; 0 where none holds one."""
    doubt: Doubt | None = None
    """Why it was opened again after a discard."""

    @property
    def is_foreign(self) -> bool:
        """A row of a results.tsv, which says neither who had the idea nor how many lines it took."""
        return self.proposer == ""

    def later_trials(self, setup: str) -> list[Trial]:
        """Return the trials that count under a setup and were run after its verdict."""
        place = self.judged_place
        return [t for t in self.trials if place and t.place > place and t.counts(setup)]

    @property
    def score(self) -> float | None:
        """Its score on validation at the usual pace, by its verdict; before one the mean of its good trials."""
        return self.score_under(self.setup)

    def score_under(self, setup: str) -> float | None:
        """Return its score under a setup: that of its verdict where it was given under it, else of its good trials."""
        if (
            setup == self.setup
            and self.verdict
            and self.decision
            and self.decision.level is not None
        ):
            return self.decision.level
        known = [t.result.score for t in self.trials if t.counts(setup)]
        scores = [score for score in known if score is not None]
        return sum(scores) / len(scores) if scores else None

    def loss_under(self, setup: str) -> float | None:
        """Return its score under a setup, signed so that less is better."""
        score = self.score_under(setup)
        is_maximized = any(t.result.is_maximized for t in self.trials)
        return -score if is_maximized and score is not None else score

    @property
    def p_real(self) -> float | None:
        """The probability that it is an improvement, as decided."""
        return self.decision.p_real if self.decision else None

    @property
    def total_seconds(self) -> float | None:
        """Seconds its trials took from start to score, confirmations apart."""
        values = self._figures("total_seconds")
        return sum(values) if values else None

    @property
    def peak_memory_mb(self) -> float | None:
        """The largest peak memory of its trials, confirmations apart."""
        return max(self._figures("peak_memory_mb"), default=None)

    @property
    def tokens_per_second(self) -> float | None:
        """The median speed of its trials, confirmations apart."""
        from statistics import median

        values = self._figures("tokens_per_second")
        return median(values) if values else None

    def _figures(self, name: str) -> list[float]:
        found = [getattr(t.result, name) for t in self.trials if not t.confirmation]
        return [value for value in found if value is not None]


@dataclass(frozen=True, kw_only=True)
class Question:
    """Which two versions of the program a confirmation compares."""

    reference: int
    """Experiment number of the reference (0: the baseline); for `each` the change that is left out of it."""
    candidate: int
    budget_seconds: float
    kind: str = "session"
    """`session` (best against baseline), `pair`, `each` (one kept change left out), `longer`, `larger`."""
    note: str = ""
    """Shown to the user; for `larger` the constants that were set."""


@dataclass(frozen=True, kw_only=True)
class Confirmation(Question):
    """Its answer, by trials of both on the same fresh seeds, scored on the test split."""

    split: Split
    delta: float
    """Mean score of the candidate minus that of the reference."""
    low: float
    high: float
    """95 % interval of the delta."""
    p_real: float
    num_trials: int
    """Of each of the two."""
    reference_score: float
    candidate_score: float
    setup: str
    at: str
    validation_delta: float | None = None
    """What validation, which was selected on, said of the same two, luck taken off; None where it said nothing."""
    is_alarm: bool = False
    """The two intervals do not meet: what was gained on validation does not carry over."""
    is_maximized: bool = False
    """More is better."""
    p_carries: float | None = None
    """For `each`: the probability that the change is a gain, by what it was kept for and by this; None for others."""

    @property
    def question(self) -> Question:
        """What it answers; the same for every answer to it."""
        return Question(**{f.name: getattr(self, f.name) for f in fields(Question)})

    @property
    def gap(self) -> float | None:
        """By how much the gain shrank from validation to test; negative where it grew."""
        if self.validation_delta is None:
            return None
        gap = self.delta - self.validation_delta
        return -gap if self.is_maximized else gap

    @property
    def is_gain(self) -> bool:
        """Whether the whole interval lies on the side of an improvement."""
        return self.low > 0 if self.is_maximized else self.high < 0

    @property
    def is_harm(self) -> bool:
        """Whether the whole interval lies on the other side."""
        return self.high < 0 if self.is_maximized else self.low > 0


@dataclass(frozen=True)
class Revert:
    """A commit that undid kept experiments, or gave undone ones back."""

    commit: str
    undone: tuple[int, ...]
    restored: tuple[int, ...]


@dataclass(frozen=True)
class SessionNote:
    """A line the user (`autoresearch note`) or an agent left for the next proposal."""

    text: str
    author: Literal["human", "agent"]
    at: str


@dataclass(frozen=True)
class Alert:
    """Something the user should know; shown under `needs you`."""

    text: str
    at: str
    command: str = ""
    """What to type about it."""
    about: str = ""
    """Key of an alert: a newer one with the same key replaces the older."""
    is_over: bool = False
    """True once the problem is resolved."""


@dataclass(frozen=True)
class Busy:
    """A stretch of the session and what the GPU did in it."""

    kind: Literal["train", "startup", "judge", "confirm", "propose", "wait", "other"]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Run:
    """Under which conditions a run goes; declared once for its event and the session."""

    seed: int = 0
    proposer: str = ""
    model: str = ""
    sandbox: str = ""
    is_unsafe: bool = False
    """Some trial ran without a sandbox."""
    is_validation_visible: bool = False
    """The source can be read inside the sandbox; promise 1 excludes such sessions."""
    metric: Metric = Metric()
    trivial_score: float | None = None
    """What an answer without any insight scores; `Metric.trivial` says which."""
    hardware: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    """The settings that differ from the defaults, keys never."""
    versions: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)
    """What ends the present run: `seconds`, `experiments`, `max_cost_usd`, from `first_number` and
    `seconds_before` of the session on."""
    flags: Sequence[str] = ()
    """Options of the command line that the line which resumes repeats; limits are in `limits`."""


@dataclass(frozen=True)
class Session(Run):
    """A session as the fold of its journal. What every screen and file is made from."""

    tag: str
    branch: str
    experiments: tuple[Experiment, ...] = ()
    state: Literal["new", "running", "paused", "finished", "interrupted", "dead"] = "new"
    stop_reason: str = ""
    started_at: str = ""
    ended_at: str = ""
    wall_seconds: float = 0.0
    """Sum over all runs of the session, not counting the time between them."""
    setup: Setup | None = None
    """The current one."""
    setups: Mapping[str, Setup] = field(default_factory=dict)
    best: int = 0
    """Number of the incumbent: the experiment at the tip of the branch."""
    tip: str = ""
    """Sha of the branch tip as the journal knows it."""
    reverts: tuple[Revert, ...] = ()
    confirmations: tuple[Confirmation, ...] = ()
    notes: tuple[SessionNote, ...] = ()
    alerts: tuple[Alert, ...] = ()
    other_usage: Usage = Usage()
    """Calls that gave no proposal."""
    busy: tuple[Busy, ...] = ()
    journal: str = ""
    """Sha of the last journal commit."""

    @property
    def is_foreign(self) -> bool:
        """Read from a results.tsv: no repository holds its experiments, no command reaches them."""
        return self.stop_reason == "foreign"

    @property
    def open(self) -> tuple[Experiment, ...]:
        """Experiments without a verdict that will get one."""
        return tuple(e for e in self.experiments if e.state in (State.PROPOSED, State.RUNNING))

    def experiment(self, number: int) -> Experiment:
        """Return experiment `number`.

        Raises:
            KeyError: there is no such experiment.
        """
        for experiment in self.experiments:
            if experiment.number == number:
                return experiment
        raise KeyError(number)

    @property
    def trial_seconds(self) -> float | None:
        """What a trial of the present setup takes from start to score, by the median of the last ones."""
        seconds = sorted(
            t.result.total_seconds
            for e in self.experiments[-9:]
            for t in e.trials
            if t.result.ok
            and t.result.total_seconds is not None
            and not t.confirmation
            and (self.setup is None or t.setup == self.setup.key)
        )
        return seconds[len(seconds) // 2] if seconds else None

    @property
    def kept(self) -> tuple[Experiment, ...]:
        """Kept experiments in order, without the baseline, without reverted ones."""
        return tuple(
            e
            for e in self.experiments
            if e.verdict is Verdict.KEEP and e.number != 0 and not e.reverted_by
        )

    @property
    def usage(self) -> Usage:
        """Everything the proposers cost; `cost_usd` is None if no call had a known price."""
        return sum((e.usage for e in self.experiments), start=self.other_usage)


@dataclass(frozen=True)
class Finding:
    """The answer of one check of `doctor`, in one line."""

    name: str
    status: Literal["ok", "warn", "fail", "skip"]
    """`ok`; `warn` works, but worse than it could; `fail` a session cannot run; `skip` not looked at."""
    text: str
    hint: str = ""
    """The command or line that helps."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """JSON values behind the text."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)
