"""What a report says, as plain values: the template and the Markdown writer only arrange it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """One number of the headline."""

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True)
class DiffLine:
    """One line of a diff and what it is: `added`, `removed`, `place`, `heading` or nothing."""

    text: str
    kind: str


@dataclass(frozen=True)
class Rung:
    """One kept experiment."""

    number: int
    commit: str
    change: str
    hypothesis: str
    theme: str
    delta: str
    cumulative: str
    p_real: str
    expected: str
    """Posterior mean and central 90 %, as decided: the gain with luck taken off."""
    worth: str
    """The best with it minus the best without it, on fresh seeds; empty if that was not tried."""
    worth_interval: str
    carries: str
    """`carries`, `unclear` or `does not`; empty if not tried."""
    memory: str
    lines: str
    is_doubtful: bool
    diff: tuple[DiffLine, ...]


@dataclass(frozen=True)
class Check:
    """One answer on fresh seeds."""

    question: str
    answer: str
    is_good: bool
    delta: str
    interval: str
    validation: str
    gap: str
    trials: str


@dataclass(frozen=True)
class Miss:
    """One experiment that was not kept."""

    number: int
    change: str
    delta: str
    reason: str


@dataclass(frozen=True)
class Theme:
    """What was tried in vain under one theme."""

    name: str
    num: int
    num_kept: int
    nearest: Miss | None
    misses: tuple[Miss, ...]
    repeats: tuple[str, ...]
    """`tried 4 times: weight decay 0.2`."""


@dataclass(frozen=True)
class Failure:
    """One reason for crashes or broken rules."""

    verdict: str
    reason: str
    num: int
    lost: str
    numbers: str
    detail: str
    log_tail: str
    log_number: int


@dataclass(frozen=True)
class Slice:
    """A share of the night."""

    kind: str
    label: str
    time: str
    percent: float


@dataclass(frozen=True)
class View:
    """Everything a report shows, in its order."""

    title: str
    subtitle: tuple[str, ...]
    state: str
    verdict: tuple[str, ...]
    cards: tuple[Card, ...]
    marks: tuple[str, ...]
    alerts: tuple[tuple[str, str], ...]
    rungs: tuple[Rung, ...]
    checks: tuple[Check, ...]
    themes: tuple[Theme, ...]
    failures: tuple[Failure, ...]
    night: tuple[Slice, ...]
    spend: tuple[str, ...]
    constants: tuple[tuple[str, str, str], ...]
    net_diff: tuple[DiffLine, ...]
    net_stat: str
    facts: tuple[tuple[str, str], ...]
    commands: tuple[str, ...]
    """How to reproduce it; empty where there is nothing, or nothing here, to reproduce."""
    notes: tuple[tuple[str, str, str], ...]
    made_at: str
    source: str
    """What it was made from, in words."""
    is_running: bool = False
    is_measured: bool = False
    num_kept: int = 0
    has_worth: bool = False
    """Whether kept changes were left out one at a time."""
    is_confirmed: bool = False
    is_alarm: bool = False
    has_noise: bool = False
    """Whether the noise is known, so that the plot shows it."""
    has_hours: bool = False
    """Whether it is known when the experiments were judged."""
    plot_alt: str = ""
