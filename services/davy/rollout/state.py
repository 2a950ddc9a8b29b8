"""Where a rollout stands: what was asked, what was seen, since when.

Belongs here: phases, the state, the observation that moves it, how it is folded.
Not here: what to do next (`davy.rollout.decide`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum

from davy.rollout.counters import Cursor, Missing
from davy.rollout.indicators import BY_REQUEST, split_name
from davy.rollout.pods import PodCounts
from davy.rollout.verdict import Counts, Evidence, Verdict
from davy.rollout.vetoes import Veto


class Phase(StrEnum):
    """Where a rollout stands, in the words of the resource's status."""

    PENDING = "Pending"
    PROGRESSING = "Progressing"
    PROMOTING = "Promoting"
    ROLLING_BACK = "RollingBack"
    PROMOTED = "Promoted"
    ROLLED_BACK = "RolledBack"
    INCONCLUSIVE = "Inconclusive"


FINAL = frozenset({Phase.PROMOTED, Phase.ROLLED_BACK})


@dataclass(frozen=True, slots=True)
class Observation:
    """All that one look saw.

    ``honoured`` is when the router was first seen to keep the weight asked for, in Unix seconds;
    None when nobody looked before this look.

    ``counts`` maps indicators to the interval's counts, empty when ``missing`` says why; ``start``
    and ``end`` are Unix seconds; ``weight`` is the canary's percent as read back, None when the
    router did not say; ``not_ready`` names arms without a ready server; ``paused`` is what the spec
    said at this look; ``pods`` are the canary's counts by pod; ``absent`` says why an indicator has
    no counts while others have; ``first`` is the earliest sample that the look before did not see.
    The samples' times, ``start``, ``end`` and ``first``, are of another clock than all others.
    """

    weight: int | None
    counts: Mapping[str, Counts] = field(default_factory=dict)
    missing: Missing | None = None
    start: float | None = None
    end: float | None = None
    not_ready: tuple[str, ...] = ()
    vetoes: tuple[Veto, ...] = ()
    paused: bool = False
    honoured: float | None = None
    cursor: Cursor = field(default_factory=Cursor)
    pods: Mapping[str, tuple[PodCounts, ...]] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    first: float | None = None


@dataclass(frozen=True, slots=True)
class State:
    """A rollout between two looks.

    ``step`` is -1 before the first; ``weight`` is the canary's percent as asked for;
    ``honoured_since`` is when it was first read back, None until a look finds it; ``weight_from``
    is by when that was on the samples' clock, None until samples tell; ``read_at`` is the last look
    that had counts;
    ``step_requests`` are the canary's requests at it; ``overridden`` says that a person has decided
    where this ends; ``replaced`` is the pod of the canary whose replacement was asked for;
    ``verdicts`` are the last look's.
    """

    phase: Phase = Phase.PENDING
    step: int = -1
    weight: int = 0
    started: datetime | None = None
    honoured_since: datetime | None = None
    step_requests: int = 0
    looks: int = 0
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    cursor: Cursor = field(default_factory=Cursor)
    overridden: bool = False
    replaced: str | None = None
    verdicts: tuple[Verdict, ...] = ()
    weight_from: float | None = None
    read_at: datetime | None = None

    def with_observation(self, observation: Observation, now: datetime) -> State:
        """Return the state after a look, before anything is decided on it.

        Raises
        ------
        InvalidInputError
            Counts that no interval can have.
        """
        honoured = observation.weight == self.weight
        since = (self.honoured_since or _time(observation.honoured)) if honoured else None
        weight_from = self._weight_from(since, observation.first)
        # An interval that began before the weight was there is not split by that weight.
        comparable = (
            since is not None
            and observation.start is not None
            and observation.start >= (since.timestamp() if weight_from is None else weight_from)
        )
        evidence = dict(self.evidence)
        for name, counts in observation.counts.items():
            before = evidence.get(name) or Evidence.empty()
            pods = observation.pods.get(name, ())
            evidence[name] = before.with_interval(counts, comparable=comparable, pods=pods)
        fresh = _requests(observation.counts)
        return replace(
            self,
            started=self.started or now,
            honoured_since=since if since is not None else (now if honoured else None),
            step_requests=self.step_requests + (fresh if comparable else 0),
            looks=self.looks + 1,
            evidence=evidence,
            cursor=observation.cursor,
            weight_from=weight_from,
            read_at=now if observation.missing is None else self.read_at,
        )

    def _weight_from(self, since: datetime | None, first: float | None) -> float | None:
        """Return a time on the samples' clock by which the weight was there; None: not known yet.

        Two clocks cannot be compared, but this can: a sample that the look before did not see was
        taken after that look, and from that look to the weight the engine's clock measured how
        long it took. So the weight was there by the first such sample's time and that much more.
        Where no look has had new samples since, its counts are none, and nothing hangs on it.
        """
        if since is None:
            return None
        if self.weight_from is not None or first is None:
            return self.weight_from
        took = 0.0 if self.read_at is None else (since - self.read_at).total_seconds()
        return first + max(took, 0.0)

    def with_weight(self, phase: Phase, *, step: int, weight: int) -> State:
        """Return the state that asks for another weight; evidence goes on."""
        return replace(
            self,
            phase=phase,
            step=step,
            weight=weight,
            honoured_since=None,
            weight_from=None,
            step_requests=0,
        )

    def with_phase(self, phase: Phase) -> State:
        """Return the state in another phase at the same weight."""
        return replace(self, phase=phase)


def _requests(counts: Mapping[str, Counts]) -> int:
    """Return the canary's requests: rows and labels only where nothing counts requests."""
    by_request = [item for name, item in counts.items() if split_name(name)[0] in BY_REQUEST]
    return max((item.n_canary for item in by_request or counts.values()), default=0)


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, tz=UTC)
