"""Whether to train again, from what was observed.

Belongs here: reasons, guards, words. Pure: no clock, no files, no network.
Not here: where the observations come from (`davy.retrain.observe`).

What is not known holds. A reason without its guards is told as blocked, because somebody has to
know that a model below its objective is not being trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from davy.retrain.policy import Policy

Outcome = Literal["start", "blocked", "none"]
State = Literal["yes", "no", "unknown"]
COOLED_DOWN = "cooled down"


@dataclass(frozen=True, slots=True)
class Observed:
    """What is known at one moment; None is what is not.

    Attributes
    ----------
    performance, estimate, estimate_before : float, optional
        The objective's measure: realised by labels, estimated without them, estimated then.
    drifted : int, optional
        Features of served versions that have drifted.
    labels : float, optional
        Labels that met an answer since the last start.
    violations : float, optional
        Share of values that break the contract.
    rollouts : int, optional
        Rollouts whose canary has some of the traffic but not all.
    """

    performance: float | None = None
    estimate: float | None = None
    estimate_before: float | None = None
    drifted: int | None = None
    labels: float | None = None
    violations: float | None = None
    rollouts: int | None = None


@dataclass(frozen=True, slots=True)
class Past:
    """The last start: when, and whether it still runs."""

    started: datetime | None = None
    running: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """One question, its answer, and what was seen, in words."""

    name: str
    state: State
    seen: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, why, and every question that was asked for it."""

    outcome: Outcome
    reason: str
    reasons: tuple[Check, ...]
    guards: tuple[Check, ...]


def decide(policy: Policy, seen: Observed, past: Past, now: datetime) -> Decision:
    """Decide whether to train again.

    Parameters
    ----------
    policy : Policy
        What is promised and what must hold.
    seen : Observed
        What is known now.
    past : Past
        The last start.
    now : datetime
        The time.
    """
    reasons = [_below(policy, seen)]
    if policy.drift is not None:
        reasons.append(_drift(policy, seen))
    guards = (
        _no_rollout(seen),
        _cooled_down(policy, past, now),
        _labels(policy, seen),
        _quality(policy, seen),
    )
    why = [check for check in reasons if check.state == "yes"]
    if not why:
        unknown = [check for check in reasons if check.state == "unknown"]
        told = "; ".join(check.seen for check in unknown or reasons)
        return Decision("none", told, tuple(reasons), guards)
    held = [check for check in guards if check.state != "yes"]
    reason = "; ".join(check.seen for check in why)
    if held:
        reason = f"{reason}. Held: {'; '.join(check.seen for check in held)}"
    return Decision("blocked" if held else "start", reason, tuple(reasons), guards)


def _below(policy: Policy, seen: Observed) -> Check:
    """Realised performance counts where there is some, else the estimate."""
    name, objective = "below its objective", policy.objective
    value, kind = seen.performance, "realised"
    if value is None:
        value, kind = seen.estimate, "estimated"
    if value is None:
        return Check(name, "unknown", f"{objective.metric} is neither realised nor estimated")
    bound = objective.at_least if objective.at_least is not None else objective.at_most
    side = "at least" if objective.at_least is not None else "at most"
    told = f"{kind} {objective.metric} is {value:.4g}, promised {side} {bound:g}"
    return Check(name, "yes" if objective.missed(value) else "no", told)


def _drift(policy: Policy, seen: Observed) -> Check:
    name, drift = "drift that costs performance", policy.drift
    if drift is None or seen.drifted is None:
        return Check(name, "unknown", "nothing tells whether features have drifted")
    if seen.drifted == 0:
        return Check(name, "no", "no feature has drifted")
    told = f"{seen.drifted} feature(s) have drifted"
    if seen.estimate is None or seen.estimate_before is None:
        return Check(name, "unknown", f"{told}, and no estimate tells what that costs")
    loss = policy.objective.loss(seen.estimate_before, seen.estimate)
    told = (
        f"{told} and estimated {policy.objective.metric} went from {seen.estimate_before:.4g} to "
        f"{seen.estimate:.4g}"
    )
    return Check(name, "yes" if loss >= drift.loss else "no", told)


def _no_rollout(seen: Observed) -> Check:
    name = "no rollout in flight"
    if seen.rollouts is None:
        return Check(name, "unknown", "nothing tells whether a rollout is in flight")
    if seen.rollouts:
        return Check(name, "no", "a canary has some of the traffic")
    return Check(name, "yes", "no canary has traffic")


def _cooled_down(policy: Policy, past: Past, now: datetime) -> Check:
    name = COOLED_DOWN
    if past.running:
        return Check(name, "no", f"training that began {_at(past.started)} has not ended")
    if past.started is None:
        return Check(name, "yes", "nothing was started before")
    over = past.started + policy.guards.cooldown
    if now < past.started:
        # A clock that was set back must not start one run after another.
        return Check(name, "no", f"the last start, {_at(past.started)}, lies ahead of the clock")
    if now < over:
        return Check(name, "no", f"started {_at(past.started)}, not again before {_at(over)}")
    return Check(name, "yes", f"last started {_at(past.started)}")


def _labels(policy: Policy, seen: Observed) -> Check:
    name, wanted = "enough new labels", policy.guards.labels
    if wanted == 0:
        return Check(name, "yes", "no labels are wanted")
    if seen.labels is None:
        return Check(name, "unknown", "nothing tells how many labels came")
    told = f"{seen.labels:.0f} labels since the last start, {wanted} wanted"
    return Check(name, "yes" if seen.labels >= wanted else "no", told)


def _quality(policy: Policy, seen: Observed) -> Check:
    name, most = "data as the contract says", policy.guards.violations
    if seen.violations is None:
        return Check(name, "unknown", "nothing tells how many values break the contract")
    told = f"{seen.violations:.2%} of the values break the contract, {most:.2%} may"
    return Check(name, "yes" if seen.violations <= most else "no", told)


def _at(when: datetime | None) -> str:
    return "" if when is None else f"{when:%Y-%m-%d %H:%M} UTC"


def since(policy: Policy, past: Past, now: datetime) -> timedelta:
    """Return how far back labels count as new."""
    if past.started is None or past.started >= now:
        return policy.guards.labels_within
    return min(now - past.started, policy.guards.labels_within)
