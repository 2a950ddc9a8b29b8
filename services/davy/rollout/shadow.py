"""The step before the first weight: real requests, answered by the canary, served to nobody.

Belongs here: what is counted and judged of it, what it waits for. Not here: sending the requests
(`davy.detector.shadow`), the order of reasons (`davy.rollout.decide`).

A sample of the requests that the stable arm answered is sent to the canary too, while its weight is
0. Of the answers three rates are bounded by the confidence sequence for the canary's own rate
(`davy.rollout.sequential.RateEvidence`), so the bounds hold at every look at once:

- *errors*: requests that failed, of those that it took;
- *differences*: answers further from the served one than ``tolerance``, of those answered;
- *slow*: answers later than the package's latency objective, of those answered.

Fail: a lower bound is above what is allowed; then it is rolled back, and nobody was served by it.
Pass: all upper bounds are at most that, and enough requests were answered; then the first weight.
Inconclusive otherwise: it waits, and past the deadline it never goes on.

Its three fails share one part of ``falseRollback`` with the indicators, so that the promise stays
that of the whole rollout. An intolerable canary passes only if the very rate that is too high does,
so each has all of ``falsePromotion``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from davy.protocol.shadow import tolerance_text
from davy.rollout.counters import Reading
from davy.rollout.indicators import SHADOW_DIFFERENCES, SHADOW_ERRORS, SHADOW_SLOWNESS
from davy.rollout.sequential import Bounds, RateEvidence
from davy.rollout.series import SHADOW_DIFFERENT, Series
from davy.rollout.verdict import Evidence, Outcome, Verdict

NAMES = frozenset({SHADOW_ERRORS, SHADOW_DIFFERENCES, SHADOW_SLOWNESS})


@dataclass(frozen=True, slots=True)
class ShadowCriterion:
    """Rate that is tolerable, and the chances of error that its verdict may use."""

    name: str
    allowance: float
    alpha_fail: float
    alpha_pass: float


def shadow_verdicts(
    criteria: Iterable[ShadowCriterion],
    evidence: Mapping[str, Evidence],
    near: Mapping[str, Verdict],
) -> tuple[Verdict, ...]:
    """Return the verdict on each rate.

    Parameters
    ----------
    criteria : iterable of ShadowCriterion
        What is tolerable.
    evidence : mapping
        What was seen, by name.
    near : mapping
        The last look's verdicts: they save time and decide nothing.
    """
    return tuple(
        _judge(item, evidence.get(item.name, Evidence.empty()).rate, near.get(item.name))
        for item in criteria
    )


def waits_for(
    verdicts: Iterable[Verdict],
    evidence: Mapping[str, Evidence],
    absent: Mapping[str, str],
    *,
    requests: int,
) -> str:
    """Return why the first weight is not given yet, in words; empty when nothing is missing.

    Parameters
    ----------
    verdicts : iterable of Verdict
        Of this step; none at all is no evidence.
    evidence : mapping
        What was seen, by name.
    absent : mapping
        Why something has no counts in this look.
    requests : int
        Fewest answers to be compared.
    """
    own = [verdict for verdict in verdicts if verdict.indicator in NAMES]
    answered = evidence.get(SHADOW_DIFFERENCES, Evidence.empty()).rate.requests
    lacking = [f"{name}: {why}" for name, why in absent.items() if name in NAMES]
    if lacking:
        return "; ".join(lacking)
    undecided = [f"{v.indicator}: {v.reason}" for v in own if v.outcome != "pass"]
    if not own or undecided:
        return "; ".join(undecided) or "nothing is judged"
    if answered < requests:
        return f"{answered} answers compared, wanted {requests}"
    return ""


def of_tolerance(series: Iterable[Series], tolerance: float) -> list[Series]:
    """Return the series without those of other tolerances."""
    wanted = tolerance_text(tolerance)
    return [
        item for item in series if item.key.metric != SHADOW_DIFFERENT or item.key.detail == wanted
    ]


def only_shadow(reading: Reading) -> Reading:
    """Return what was counted of this step alone.

    The canary's own counters rise with every request that is sent to it; but those are no
    comparison of two arms within their traffic, so they are evidence of this step only.
    """
    return replace(
        reading,
        counts={name: item for name, item in reading.counts.items() if name in NAMES},
        pods={},
        absent={name: why for name, why in reading.absent.items() if name in NAMES},
    )


def _judge(criterion: ShadowCriterion, rate: RateEvidence, near: Verdict | None) -> Verdict:
    weighed = rate.weigh(
        criterion.allowance,
        alpha_lower=criterion.alpha_fail,
        alpha_upper=criterion.alpha_pass,
        near=near.rate if near else None,
    )
    bounds, seen = weighed.bounds, f"{rate.events} in {rate.requests}"
    outcome: Outcome = "inconclusive"
    reason = f"rate between {bounds.lower:.3%} and {bounds.upper:.3%}"
    if weighed.above >= -math.log(criterion.alpha_fail):
        outcome, reason = "fail", f"at least {bounds.lower:.3%} of requests"
    elif weighed.below >= -math.log(criterion.alpha_pass):
        outcome, reason = "pass", f"at most {bounds.upper:.3%} of requests"
    reason += f" (allowed {criterion.allowance:.3%}); seen: {seen}, served to nobody"
    return Verdict(criterion.name, outcome, Bounds(0.0, math.inf), bounds, reason)
