"""How many more requests until an indicator is decided, if all goes on as it has.

Belongs here: the expected way from the evidence so far to a verdict. Not here: chances
(`davy.rollout.power`), what is decided (`davy.rollout.verdict`).

It follows the expected counts, not a random walk around them: half of all rollouts like this one
will need more. Nothing is decided on it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from davy.rollout.verdict import Counts, Criterion, Evidence, Outcome, judge

# Beyond this many canary requests it is not worth waiting for.
LIMIT = 10**8
FIRST = 8
PRECISION = 1.02


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the evidence is going to say, after how many canary requests and seconds more.

    ``requests`` None: not within `LIMIT`. ``seconds`` None: that, or the rate is not known.
    """

    outcome: Outcome
    requests: int | None
    seconds: float | None


def forecast(
    criterion: Criterion, evidence: Evidence, *, share: float, canary_rate: float | None
) -> Forecast | None:
    """Return how far an indicator is from its verdict; None when nothing was seen to go by.

    Parameters
    ----------
    criterion : Criterion
        What is tolerable.
    evidence : Evidence
        So far.
    share : float
        The canary's share of the traffic, between 0 and 1.
    canary_rate : float, optional
        Canary requests a second.
    """
    seen, totals = evidence.rate, evidence.totals
    if not (seen.requests and totals.n_stable):
        return None
    canary, stable = seen.events / seen.requests, totals.k_stable / totals.n_stable
    return expected(
        criterion, evidence, stable=stable, canary=canary, share=share, canary_rate=canary_rate
    )


def expected(
    criterion: Criterion,
    evidence: Evidence,
    *,
    stable: float,
    canary: float,
    share: float,
    canary_rate: float | None,
) -> Forecast:
    """Return the verdict and the requests until it, if both arms have these event rates."""

    def outcome(requests: int) -> Outcome:
        other = round(requests * (1 - share) / share)
        counts = Counts(other, round(other * stable), requests, round(requests * canary))
        return judge(criterion, evidence.with_interval(counts)).outcome

    many, before = FIRST, 0
    while (found := outcome(many)) == "inconclusive":
        before, many = many, many * 2
        if many > LIMIT:
            return Forecast("inconclusive", None, None)
    while many > before * PRECISION and many - before > 1:
        middle = round(math.sqrt(max(before, 1) * many))
        if middle in (before, many):
            break
        nearer = outcome(middle)
        if nearer == "inconclusive":
            before = middle
        else:
            many, found = middle, nearer
    return Forecast(found, many, many / canary_rate if canary_rate else None)
