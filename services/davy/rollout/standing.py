"""Where a rollout stands, for people: one picture of it, whether it runs here or on a cluster.

Belongs here: what `status` and `watch` show, made from a record; the port that finds rollouts.
Not here: drawing it (the command line, `davy.rollout.picture`), deciding.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from davy.rollout.decide import PAUSED
from davy.rollout.forecast import Forecast, forecast
from davy.rollout.indicators import BY_REQUEST, split_name
from davy.rollout.record import DAVY, IndicatorCounts, LookLine, Record, VerdictLine
from davy.rollout.replay import resume
from davy.rollout.sequential import RateEvidence
from davy.rollout.shadow import ShadowCriterion
from davy.rollout.spec import RolloutSpec
from davy.rollout.state import FINAL, State
from davy.rollout.status import VerdictStatus
from davy.rollout.verdict import Criterion

# The present rate is that of the last looks with counts, at most so many.
RECENT_LOOKS = 30


@dataclass(frozen=True, slots=True)
class IndicatorStanding:
    """One indicator: verdict, the bounds behind it, what is tolerable, what is still needed.

    ``needed`` is None once the indicator is decided, and where nothing was seen to go by; limits
    and counts are None where it is not known.
    """

    name: str
    outcome: str
    ratio_lower: float
    ratio_upper: float | None
    rate_lower: float
    rate_upper: float
    tolerable_ratio: float | None
    allowance: float | None
    requests: int | None = None
    events: int | None = None
    needed: Forecast | None = None

    @classmethod
    def of(
        cls,
        told: VerdictLine | VerdictStatus,
        criterion: Criterion | ShadowCriterion | None,
        *,
        requests: int | None,
        events: int | None,
        needed: Forecast | None = None,
    ) -> IndicatorStanding:
        """Return it by a verdict, what is tolerable where that is known, and counts."""
        return cls(
            name=told.indicator,
            outcome=told.outcome,
            ratio_lower=told.ratio_lower,
            ratio_upper=told.ratio_upper,
            rate_lower=told.rate_lower,
            rate_upper=told.rate_upper,
            tolerable_ratio=criterion.ratio if isinstance(criterion, Criterion) else None,
            allowance=criterion.allowance if criterion else None,
            requests=requests,
            events=events,
            needed=needed,
        )


@dataclass(frozen=True, slots=True)
class Episode:
    """Looks after each other in which the same was decided, for the same reason."""

    first: LookLine
    last: LookLine

    @property
    def looks(self) -> int:
        """How many."""
        return self.last.look - self.first.look + 1


@dataclass(frozen=True, slots=True)
class Happened:
    """One line of a rollout's story: since when, how often, what, and why."""

    time: datetime
    looks: int
    what: str
    reason: str
    message: str
    who: str = DAVY


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a rollout stands.

    ``weight`` is the canary's share in percent as asked for, ``weight_read`` as the router has it
    (None: it did not say); ``step`` counts from 1, 0 before the first; ``canary_rate`` is in
    requests a second. ``baseline`` is what the canary is compared with, empty: the stable arm.
    """

    name: str
    stable: str
    canary: str
    phase: str
    reason: str
    message: str
    weight: int
    weight_read: int | None
    step: int
    steps: tuple[int, ...]
    looks: int = 0
    started: datetime | None = None
    seen: datetime | None = None
    deadline: float | None = None
    canary_rate: float | None = None
    step_requests: int | None = None
    min_requests: int | None = None
    indicators: tuple[IndicatorStanding, ...] = ()
    vetoes: tuple[str, ...] = ()
    happened: tuple[Happened, ...] = ()
    where: str = ""
    baseline: str = ""

    @property
    def against(self) -> str:
        """The version that the canary is compared with."""
        return self.baseline or self.stable

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.phase in FINAL or self.phase == "Failed"

    @property
    def age(self) -> float:
        """Seconds from the first look to the last."""
        if self.started is None or self.seen is None:
            return 0.0
        return (self.seen - self.started).total_seconds()


class Rollouts(Protocol):
    """Where rollouts are found."""

    def names(self) -> Sequence[str]:
        """Return the names of all, sorted."""
        ...

    def standing(self, name: str) -> Standing:
        """Return where one stands.

        Raises
        ------
        NotFoundError
            There is none of this name.
        """
        ...


def episodes(looks: Sequence[LookLine]) -> Iterator[Episode]:
    """Group looks that say the same: they follow each other by the hundred."""
    for _, group in itertools.groupby(looks, key=_kind):
        same = list(group)
        yield Episode(same[0], same[-1])


def _kind(look: LookLine) -> tuple[str, str, int, str, str]:
    decision = look.decision
    # Who paused it, and a second veto, are news; bounds that narrow are not.
    paused = decision.message if decision.reason == PAUSED else ""
    return decision.action, decision.reason, decision.step, look.actor, paused


def standing_of(record: Record, *, where: str = "", news: int = 8) -> Standing:
    """Return where the rollout of a record stands; `news` is how many episodes are kept."""
    header, spec = record.header, record.spec()
    steps = tuple(step.weight for step in spec.steps)
    if not record.looks:
        return Standing(
            name=header.rollout, stable=header.stable, canary=header.canary, phase="Pending",
            reason="NotBegun", message="no look was taken yet", weight=0, weight_read=None,
            step=0, steps=steps, where=where, baseline=header.baseline,
        )  # fmt: skip
    state, last = resume(record), record.looks[-1]
    decision = last.decision
    step = spec.steps[max(decision.step, 0)]
    return Standing(
        name=header.rollout,
        stable=header.stable,
        canary=header.canary,
        phase=decision.phase,
        reason=decision.reason,
        message=decision.message,
        weight=decision.weight,
        weight_read=last.weights.read,
        step=decision.step + 1,
        steps=steps,
        looks=last.look,
        started=record.looks[0].time,
        seen=last.time,
        deadline=spec.analysis.deadline.total_seconds(),
        canary_rate=canary_rate(record.looks),
        step_requests=state.step_requests,
        min_requests=step.min_requests,
        indicators=tuple(_indicators(spec, state, record.looks)),
        vetoes=tuple(f"{veto.name}: {veto.message}" for veto in last.vetoes if veto.active),
        happened=tuple(_happened(item) for item in list(episodes(record.looks))[-news:]),
        where=where,
        baseline=header.baseline,
    )


def canary_rate(looks: Sequence[LookLine], indicator: str = "") -> float | None:
    """Return the canary's requests a second at the weight that it has now; None: not known.

    Of an indicator it is what that one counts, which may be rows or labels.
    """
    weight, requests, seconds = looks[-1].decision.weight, 0, 0.0
    for look in reversed(looks[-RECENT_LOOKS:]):
        if look.weights.asked != weight or look.weights.read != weight:
            break
        found = look.intervals
        if found.start is None or found.end is None or not found.counts:
            continue
        requests += _counted(found.counts, indicator)
        seconds += found.end - found.start
    return requests / seconds if seconds > 0 else None


def _counted(counts: Sequence[IndicatorCounts], indicator: str) -> int:
    """Return what an indicator counted, or the requests: rows only where nothing counts them."""
    if indicator:
        return sum(item.canary.n for item in counts if item.indicator == indicator)
    by_request = [item for item in counts if split_name(item.indicator)[0] in BY_REQUEST]
    return max(item.canary.n for item in by_request or counts)


def _indicators(
    spec: RolloutSpec, state: State, looks: Sequence[LookLine]
) -> Iterator[IndicatorStanding]:
    share = spec.compared(state.weight)
    by_name = spec.limits()
    for verdict in looks[-1].verdicts:
        criterion, evidence = by_name.get(verdict.indicator), state.evidence.get(verdict.indicator)
        needed = None
        undecided = verdict.outcome == "inconclusive"
        if isinstance(criterion, Criterion) and evidence and undecided and 0 < share < 1:
            rate = canary_rate(looks, verdict.indicator)
            needed = forecast(criterion, evidence, share=share, canary_rate=rate)
        seen = evidence.rate if evidence else RateEvidence()
        yield IndicatorStanding.of(
            verdict, criterion, requests=seen.requests, events=seen.events, needed=needed
        )


def _happened(episode: Episode) -> Happened:
    last = episode.last
    return Happened(
        time=episode.first.time,
        looks=episode.looks,
        what=what(last),
        reason=last.decision.reason,
        message=last.decision.message,
        who=last.actor,
    )


def what(look: LookLine) -> str:
    """Return what was done at a look, in words."""
    decision, asked = look.decision, look.weights.asked
    return {
        "hold": f"held at {decision.weight} %",
        "advance": f"advanced from {asked} % to {decision.weight} %",
        "promote": f"promoted: from {asked} % to 100 %",
        "rollback": f"rolled back: from {asked} % to 0 %",
        "finish": f"ended as {decision.phase}",
    }[decision.action]
