"""The verdict of one indicator: fail, pass or inconclusive, with the bounds behind it.

Belongs here: margins, allowances, how the error rates are shared out.
Not here: what a verdict leads to (`davy.rollout.decide`).

How the promised error rates are shared out:

- *Rolling back* needs one failing indicator, so ``falseRollback`` is split over the indicators by
  their ``share``. A tolerable indicator is tolerable by its ratio or by its rate; a fail needs both
  bounds above, so it is wrong only if a bound that holds with 1 - alpha is: no further split.
- *Promoting* needs every indicator to pass, so an intolerable canary gets through only if the very
  indicator that is intolerable passes: no split over indicators. Each has two ways to pass, by
  ratio or by rate, and gets half of ``falsePromotion`` for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from davy.rollout.sequential import Bounds, RateEvidence, RatioEvidence, check_counts

Outcome = Literal["fail", "pass", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Criterion:
    """What is tolerable for one indicator, and the chance of error that it may use.

    ``ratio`` is the tolerable ratio of rates (1 + margin), ``allowance`` the canary's own rate that
    is tolerable however it compares (0: none).
    """

    name: str
    ratio: float
    allowance: float
    alpha_fail: float
    alpha_pass: float


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests and events of both arms in one interval."""

    n_stable: int
    k_stable: int
    n_canary: int
    k_canary: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that a rollout has seen of one indicator."""

    ratio: RatioEvidence
    rate: RateEvidence
    totals: Counts = Counts(0, 0, 0, 0)

    @classmethod
    def empty(cls) -> Evidence:
        """Return the evidence before the first interval."""
        return cls(RatioEvidence.empty(), RateEvidence())

    def with_interval(self, counts: Counts, *, comparable: bool = True) -> Evidence:
        """Return the evidence with one interval more.

        Parameters
        ----------
        counts : Counts
            What both arms did in it.
        comparable : bool
            False when the weights changed within the interval: then the arms did not share its
            traffic evenly, and only the canary's own rate is learnt from it.

        Raises
        ------
        InvalidInputError
            An arm has more events than requests, or a count is negative.
        """
        check_counts(counts.n_stable, counts.k_stable, arm="stable")
        rate = self.rate.with_interval(n=counts.n_canary, k=counts.k_canary)
        if not comparable:
            return replace(self, rate=rate)
        ratio = self.ratio.with_interval(
            n_stable=counts.n_stable,
            k_stable=counts.k_stable,
            n_canary=counts.n_canary,
            k_canary=counts.k_canary,
        )
        totals = Counts(
            self.totals.n_stable + counts.n_stable,
            self.totals.k_stable + counts.k_stable,
            self.totals.n_canary + counts.n_canary,
            self.totals.k_canary + counts.k_canary,
        )
        return Evidence(ratio, rate, totals)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the evidence says of one indicator, with its bounds and in words."""

    indicator: str
    outcome: Outcome
    ratio: Bounds
    rate: Bounds
    reason: str


def judge(criterion: Criterion, evidence: Evidence) -> Verdict:
    """Return the verdict of one indicator.

    Fail: the lower bound of the ratio is above what is tolerable, and so is that of the canary's
    rate. Pass: an upper bound is at or below it. Inconclusive otherwise.
    """
    ratio = evidence.ratio.bounds(
        alpha_lower=criterion.alpha_fail, alpha_upper=criterion.alpha_pass / 2
    )
    rate = evidence.rate.bounds(
        alpha_lower=criterion.alpha_fail, alpha_upper=criterion.alpha_pass / 2
    )
    over_ratio = ratio.lower > criterion.ratio
    # With no allowance there is nothing to be above: the ratio alone decides.
    over_rate = rate.lower > criterion.allowance or criterion.allowance == 0
    seen = _seen(evidence)
    if over_ratio and over_rate:
        reason = (
            f"at least {ratio.lower:.3g} times the stable rate (tolerable {criterion.ratio:g}) and "
            f"at least {rate.lower:.3%} of requests (allowed {criterion.allowance:.3%}); {seen}"
        )
        return Verdict(criterion.name, "fail", ratio, rate, reason)
    if ratio.upper <= criterion.ratio:
        reason = (
            f"at most {ratio.upper:.3g} times the stable rate (tolerable {criterion.ratio:g}); "
            f"{seen}"
        )
        return Verdict(criterion.name, "pass", ratio, rate, reason)
    if rate.upper <= criterion.allowance:
        reason = f"at most {rate.upper:.3%} of requests (allowed {criterion.allowance:.3%}); {seen}"
        return Verdict(criterion.name, "pass", ratio, rate, reason)
    reason = (
        f"ratio between {ratio.lower:.3g} and {ratio.upper:.3g} (tolerable {criterion.ratio:g}), "
        f"rate between {rate.lower:.3%} and {rate.upper:.3%} "
        f"(allowed {criterion.allowance:.3%}); {seen}"
    )
    return Verdict(criterion.name, "inconclusive", ratio, rate, reason)


def worst(verdicts: Sequence[Verdict]) -> Outcome:
    """Return the outcome of all: any fail fails, all must pass to pass; none at all is nothing."""
    outcomes = {verdict.outcome for verdict in verdicts}
    if "fail" in outcomes:
        return "fail"
    return "pass" if outcomes == {"pass"} else "inconclusive"


def _seen(evidence: Evidence) -> str:
    totals, rate = evidence.totals, evidence.rate
    return (
        f"seen: canary {rate.events} in {rate.requests}, "
        f"stable {totals.k_stable} in {totals.n_stable}"
    )
