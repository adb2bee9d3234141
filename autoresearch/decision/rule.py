"""The keep rule: keep, discard or test again.

Three policies over one posterior (`decision/posterior.py`). `greedy` keeps whatever measured lower, as the field
does; `balanced` keeps what is probably better; `strict` tests the doubtful again and keeps what is almost
surely better. What they cost and find is measured by `bench/keep_rule.py`, see docs/keep-rule.md.

Pure: no clock, no disk, no randomness.
"""

from dataclasses import dataclass, replace
from typing import Literal

from autoresearch.config import DecisionConfig
from autoresearch.decision.belief import ADJUST_MOST, believe, estimate_of, row_of, rows_of
from autoresearch.decision.measuring import may_measure
from autoresearch.decision.plateau import finding_probability
from autoresearch.decision.posterior import Effect
from autoresearch.decision.scores import (
    good_results,
    good_trials,
    implausible_gain,
    scores_of,
    setup_of,
    trial_seed,
    with_cases,
)
from autoresearch.decision.throughput import speed_mark
from autoresearch.types import (
    Decision,
    Doubt,
    Experiment,
    Purpose,
    Reason,
    Session,
    TrialResult,
    Verdict,
)


@dataclass(frozen=True)
class Policy:
    """Where a policy draws its lines on the probability that a candidate is worth keeping."""

    keep: float
    """Kept above this at once."""
    drop: float
    """Discarded below this at once; between the two it is tested again."""
    max_trials: int
    """Of one candidate."""
    last: float
    """Kept above this after the last trial."""

    def verdict(self, p_worth: float, num_trials: int) -> Literal["keep", "discard", "retest"]:
        """Return what a candidate with this probability of being worth it gets."""
        is_last = num_trials >= self.max_trials
        if p_worth > (self.last if is_last else self.keep):
            return "keep"
        return "retest" if p_worth >= self.drop and not is_last else "discard"


POLICIES = {
    "balanced": Policy(keep=0.5, drop=0.3, max_trials=2, last=0.4),
    "strict": Policy(keep=0.9, drop=0.3, max_trials=4, last=0.9),
}
MEMORY_SLACK = 0.1
"""Growth of peak memory that costs nothing, as a share of the incumbent's."""
MEMORY_PRICE = 0.0005
"""Share of the incumbent's score that each further tenth of memory must be worth."""
SENTINEL_EVERY = 25
"""Experiments after which the incumbent is measured again."""
TIE_SHARE = 0.5
"""Part of the noise within which fewer lines count as equal."""
ODD_SPREAD = 4.0
"""Spread of trials of one program, in units of the noise, above which a warning is shown: a shared machine, or luck."""
THRESHOLD_SLACK = 0.5
"""Part of the noise by which `keep_threshold` errs on the side of auditing."""
PAIR_ABOVE = 1.0
"""Units of the noise: where it is less sure what a pace takes off, the incumbent is run beside a candidate."""
PAIRS_MOST = 2
"""Runs of the incumbent beside one trial of a candidate."""
HOPELESS = 0.02
"""Probability of a gain below which it does not matter how fast the machine was."""
REOPENED_SHARE, REOPENED_LEAST = 0.04, 2
"""Of all ideas so far, how many may be tried again because the machine had moved; and so many in any case."""
MARKED_IN_A_ROW = 2
"""Experiments at another speed after which the incumbent is measured again."""


@dataclass(frozen=True)
class Price:
    """What a candidate must gain, in units of the metric, before it is worth keeping; negative: what it may lose."""

    memory: float
    tie: float

    @property
    def total(self) -> float:
        """The gain to exceed."""
        return self.memory - self.tie


def decide(
    candidate: Experiment,
    incumbent: Experiment,
    session: Session,
    config: DecisionConfig,
) -> Decision:
    """Decide on a candidate whose trials so far are in `candidate.trials`.

    Args:
        candidate: With all its trials and its line counts; it may be in `session` too.
        incumbent: The experiment it was made from, measured in the same setup.
        session: The record: noise, prior and the incumbent's uncertainty are read from it.
        config: Policy and prices.

    Raises:
        ValueError: the incumbent has no score in the current setup; run it first.
    """
    setup = setup_of(session, incumbent)
    trials = good_trials(candidate, setup)
    reference, belief = incumbent.loss_under(setup), believe(session, setup)
    parent = belief.level(candidate.parent) or belief.level(incumbent.commit)
    if parent is None:
        raise ValueError(f"experiment #{incumbent.number} has no score in setup `{setup}`")
    if not trials:
        return Decision("discard", Reason.NO_SCORE, explanation="it has no score")
    rows = rows_of(candidate, trials)
    effect = belief.effect(candidate.parent, rows)
    noise, num_trials = with_cases(belief.noise().sd, [t.result for t in trials]), len(trials)
    delta = float(effect.best)
    price = price_of(candidate, incumbent, setup, noise)
    p_real = float(effect.below(0.0))
    action, reason = _rule(config.policy, p_real, delta, price, effect, num_trials)
    sign = session.metric.sign
    seen = f"measured {sign * delta:+.6f} with noise {noise:.6f}"
    if num_trials > 1:
        seen += f" over {num_trials} trials"
    own = scores_of(good_results(incumbent, setup))
    apart = max(own) - min(own)
    if apart > max(abs(delta), ODD_SPREAD * noise):
        seen += f", while trials of its incumbent alone lie {apart:.6f} apart"
    chance = f"better with probability {p_real:.2f}"
    edges = effect.quantile(0.05), effect.quantile(0.95)
    mine = estimate_of(candidate.number, effect, noise)
    return Decision(
        action=action,
        reason=reason,
        p_real=p_real,
        estimate=sign * float(effect.mean),
        low=min(sign * edge for edge in edges),
        high=max(sign * edge for edge in edges),
        delta=sign * (parent[0] + delta - (reference if reference is not None else parent[0])),
        level=sign * (parent[0] + delta),
        noise=noise,
        num_trials=num_trials,
        explanation=f"{seen}: {reason.text.format(chance=chance, memory=price.memory)}",
        mark=speed_mark(candidate, incumbent, setup) or belief.pace_mark(rows),
        p_find=finding_probability(
            session, {**belief.estimates, candidate.number: mine}, judging=candidate.number
        ),
    )


def is_implausible(decision: Decision, incumbent: Experiment, setup: str, jump: float) -> bool:
    """Whether a candidate takes off more than ideas do; `jump` is `[judge] suspicious_jump`."""
    level = incumbent.loss_under(setup)
    if level is None or decision.delta is None or jump >= 1:
        return False
    is_maximized = any(t.result.is_maximized for t in incumbent.trials)
    gain = decision.delta if is_maximized else -decision.delta
    return gain > implausible_gain(level, decision.noise, jump)


def alarm_of(candidate: Experiment, setup: str) -> TrialResult | None:
    """Return its trial that was audited on text that no claim saw, as far as there is such text."""
    found = [t for t in candidate.trials if t.purpose == Purpose.ALARM and t.counts(setup)]
    return found[-1].result if found else None


def held(decision: Decision, alarm: TrialResult) -> Decision:
    """Return the decision with why the keep is held."""
    figures = alarm.extra
    unseen = "no text is left that no claim saw"
    if figures.get("num_unseen"):
        unseen = (
            f"on {figures['num_unseen']} rows that no claim saw it scores"
            f" {figures['unseen_score']:.4f} +- {figures['unseen_se']:.4f}"
        )
    why = Reason.IMPLAUSIBLE.text.format(unseen=unseen)
    return replace(decision, explanation=f"{decision.explanation}; {why}")


def _rule(
    policy: str,
    p_real: float,
    delta: float,
    price: Price,
    effect: Effect,
    num_trials: int,
) -> tuple[Literal["keep", "discard", "retest"], Reason]:
    """Return action and reason."""
    action: Literal["keep", "discard", "retest"]
    if policy == "greedy":
        action, is_gain = ("keep" if delta < -price.total else "discard"), delta < 0
    else:
        action = POLICIES[policy].verdict(float(effect.below(-price.total)), num_trials)
        is_gain = POLICIES[policy].verdict(p_real, num_trials) == "keep"
    if action == "keep":
        return action, Reason.GAIN if is_gain else Reason.SIMPLER
    if action == "retest":
        return action, Reason.DOUBTFUL
    if is_gain:
        return action, Reason.MEMORY
    return action, Reason.WORSE if 1 - float(effect.below(1e-15)) > 0.9 else Reason.NO_GAIN


def price_of(candidate: Experiment, incumbent: Experiment, setup: str, noise: float) -> Price:
    """Return the gain a candidate must show for its memory, less what its fewer lines allow."""
    is_simpler = candidate.lines_added < candidate.lines_removed
    mine, theirs = (
        max((t.peak_memory_mb or 0.0 for t in good_results(e, setup)), default=0.0)
        for e in (candidate, incumbent)
    )
    growth = mine / theirs - 1 if theirs else 0.0
    level = abs(incumbent.score_under(setup) or 0.0)
    return Price(
        memory=MEMORY_PRICE * level * max(growth - MEMORY_SLACK, 0.0) / 0.1,
        tie=TIE_SHARE * noise if is_simpler else 0.0,
    )


def anchor_of(session: Session, incumbent: Experiment, config: DecisionConfig) -> float | None:
    """Return the score of the incumbent to which a task that runs it beside the candidate adds the difference.

    By the posterior, from which its luck is taken off; `greedy` asks for what it measured.
    """
    setup = setup_of(session, incumbent)
    known = None if config.policy == "greedy" else believe(session, setup).level(incumbent.commit)
    return session.metric.sign * known[0] if known else incumbent.score_under(setup)


def keep_threshold(session: Session, config: DecisionConfig) -> float | None:
    """Return the claimed loss above which a first trial could neither be kept nor tested again.

    Errs towards auditing: half a sigma is added, and fewer lines are assumed.

    Returns:
        None while nothing is measured: then everything is audited.
    """
    setup = setup_of(session)
    belief = believe(session, setup)
    best = next((e for e in session.experiments if e.number == session.best), None)
    reference = best.loss_under(setup) if best is not None else None
    if best is None or reference is None or belief.knowledge is None:
        return None
    noise = belief.noise().sd
    tie = TIE_SHARE * noise
    if config.policy == "greedy":
        line = reference + tie
    else:
        rule = POLICIES[config.policy]
        lowest = min(rule.keep, rule.drop) if rule.max_trials > 1 else rule.last
        line = belief.threshold(best.commit, trial_seed(session.seed, 0), lowest, tie)
    return line + THRESHOLD_SLACK * noise


def is_sentinel_due(session: Session) -> bool:
    """Whether the incumbent should be run again.

    It is after `SENTINEL_EVERY` experiments since its last trial, because the machine may have drifted meanwhile;
    and after two in a row that ran at another speed without a cause, because then it probably has. Each such trial
    sharpens the incumbent's level and the noise.
    """
    best = next((e for e in session.experiments if e.number == session.best), None)
    if best is None or best.verdict is not Verdict.KEEP:
        return False
    setup = setup_of(session, best)
    last = max((t.place for t in best.trials if t.is_of_loop(setup)), default=0)
    since = [
        e
        for e in session.experiments
        if e.number != best.number and e.judged_place > last and e.setup == setup and e.trials
    ]
    since.sort(key=lambda e: e.judged_place)
    marked = [_is_odd(e.decision) for e in since[-MARKED_IN_A_ROW:]]
    is_odd = len(marked) == MARKED_IN_A_ROW and all(marked)
    return last > 0 and (is_odd or len(since) >= SENTINEL_EVERY) and may_measure(session)


def _is_odd(decision: Decision | None) -> bool:
    """Whether a candidate ran at another speed and no counter of the machine says why."""
    return decision is not None and decision.mark.startswith("tokens/s")


def is_incumbent_due(
    decision: Decision, candidate: Experiment, incumbent: Experiment, session: Session
) -> bool:
    """Whether the incumbent should be run again before a candidate gets its verdict: the two then stand side by side.

    It should where the machine's pace was another one than in any trial of the incumbent, so that what is taken off for
    it is more than `ADJUST_MOST` of the score or less sure than `PAIR_ABOVE` allows, and the candidate may be worth it;
    `PAIRS_MOST` times at most after the candidate's last trial. And once before a keep where the two ran at different
    speeds without a cause, because then the machine may have changed in a way that no counter shows.
    """
    setup = setup_of(session, incumbent)
    ours, theirs = good_trials(candidate, setup), good_trials(incumbent, setup)
    if decision.action == "retest" or not ours or not theirs:
        return False
    if decision.action == "keep" and _is_odd(decision) and theirs[-1].place < ours[0].place:
        return True
    since = sum(t.place > ours[-1].place for t in theirs)
    if since >= PAIRS_MOST or not may_measure(session):
        return False
    row = row_of(ours[-1].result)
    adjusted, unsure = believe(session, setup).apart(row)
    if abs(adjusted) > ADJUST_MOST * abs(row.score):
        return True
    is_doubtful = (decision.p_real or 0.0) >= HOPELESS
    return is_doubtful and unsure > PAIR_ABOVE * (decision.noise or 0.0)


def due_again(session: Session) -> dict[int, Doubt]:
    """Return which discarded ideas to try once more, the likeliest gains first, with why.

    Those that were weighed against an incumbent which ran too long before, on a machine that had moved by then; each
    once, and no more than `REOPENED_SHARE` of all ideas and two beside.
    """
    doubts = believe(session).doubts
    if not doubts or not may_measure(session):
        return {}
    ideas = {e.number: e for e in session.experiments}
    left = REOPENED_LEAST + int(REOPENED_SHARE * len(ideas))
    left -= sum(e.doubt is not None for e in ideas.values())
    found = [
        number
        for number in doubts
        if ideas[number].verdict is Verdict.DISCARD
        and ideas[number].doubt is None
        and ideas[number].parent == session.tip
    ]
    found.sort(key=lambda number: -doubts[number].p_real)
    return {number: doubts[number] for number in found[: max(left, 0)]}


def is_again_due(candidate: Experiment, setup: str) -> bool:
    """Whether an idea that was opened again has not run since."""
    doubt = candidate.doubt
    return doubt is not None and all(t.place < doubt.place for t in good_trials(candidate, setup))
