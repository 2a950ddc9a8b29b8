"""The decision record: JSON lines, one a look, from which every decision can be recomputed.

Belongs here: the schema of a line, and its conversion to and from what was seen and decided.
Not here: reading a file of them (`davy.rollout.record_file`), appending to one
(`davy.rollout.adapters.folder_journal`), recomputing (`davy.rollout.replay`).

The first line is the header: spec, versions, latency objective. Every other line is one look, or a
person's override, whose ``actor`` is who decided and whose message says why. A last line without
its end of line is a crash while writing: that look was not taken. Anything else that does not parse
is damage, and refused with its line number.

Each look carries the sha256 of the line before it (``previous``), so that a line that was changed,
taken out or put in later is found, in whatever it says; the hash of the last line (`Record.tip`)
vouches for all, wherever it was noted.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from davy.core.errors import ConflictError
from davy.core.files import MachineWritten
from davy.rollout.counters import Cursor, Missing
from davy.rollout.decide import Decision
from davy.rollout.pods import PodAction, PodCounts
from davy.rollout.sequential import Bounds
from davy.rollout.series import Arms, Sample, SeriesKey
from davy.rollout.spec import RolloutSpec
from davy.rollout.state import Observation, Phase
from davy.rollout.verdict import Counts, Outcome, Verdict
from davy.rollout.vetoes import Veto

# 2: the cursor has segments, and lines say the first new sample and which orders they settled.
SCHEMA_VERSION = "2"
# The actor of what follows from the evidence; any other is the name of a person who overrode it.
DAVY = "davy"


class Header(MachineWritten):
    """First line: under which settings all others were decided."""

    kind: Literal["header"] = "header"
    schema_version: str = SCHEMA_VERSION
    time: datetime
    rollout: str
    generation: int
    settings_hash: str
    spec: dict[str, Any]
    stable: str
    canary: str
    # Empty: there is none, and the canary is compared with the stable arm.
    baseline: str = ""
    latency_objective_seconds: float

    def arms(self) -> Arms:
        """Return the versions."""
        return Arms(self.stable, self.canary, self.baseline)

    def check_same(self, wanted: Header) -> None:
        """Refuse a record that another rollout began.

        Raises
        ------
        ConflictError
            Names what differs.
        """
        for field in ("rollout", "stable", "canary", "settings_hash", "latency_objective_seconds"):
            was, now = getattr(self, field), getattr(wanted, field)
            if was != now:
                raise ConflictError(
                    f"the record was begun with {field} '{was}', this rollout has '{now}'",
                    where=f"rollout {self.rollout}",
                    fix="Evidence starts anew with another candidate or spec: use another folder",
                )

    @property
    def identity(self) -> str:
        """Return what tells this record from another of the same name: a hash of how it began."""
        began = [self.time.isoformat(), self.rollout, self.stable, self.canary, self.settings_hash]
        return hashlib.sha256(json.dumps(began).encode()).hexdigest()[:16]


class Weights(MachineWritten):
    """Canary weight in percent: asked before the look, as read back in it (null: no answer).

    ``honoured`` is the Unix time at which it was read back right after it had been asked for.
    """

    asked: int
    read: int | None
    honoured: float | None = None


class ArmCounts(MachineWritten):
    """Requests ``n``, events ``k``, and those of them that a ``node`` alone can cause."""

    n: int
    k: int
    node: int = 0


class IndicatorCounts(MachineWritten):
    """One indicator's raw counts in the interval."""

    indicator: str
    stable: ArmCounts
    canary: ArmCounts


class Intervals(MachineWritten):
    """Raw counts between two Unix times, or why there are none.

    ``first`` is the earliest sample that the look before did not see.
    ``pods`` are the canary's by pod: (indicator, pod, n, k); ``absent`` says why an indicator has
    none while others have.
    """

    start: float | None = None
    end: float | None = None
    counts: list[IndicatorCounts] = Field(default_factory=list)
    missing_reason: str | None = None
    missing_message: str | None = None
    pods: list[tuple[str, str, int, int]] = Field(default_factory=list)
    absent: dict[str, str] = Field(default_factory=dict)
    first: float | None = None


class VerdictLine(MachineWritten):
    """One indicator's verdict; an upper ratio of null is unbounded."""

    indicator: str
    outcome: Outcome
    ratio_lower: float
    ratio_upper: float | None
    rate_lower: float
    rate_upper: float
    reason: str


class VetoLine(MachineWritten):
    """One veto as found in this look."""

    name: str
    active: bool
    message: str


class PodActionLine(MachineWritten):
    """What was asked of the canary's pods."""

    kind: Literal["replace", "add"]
    pod: str


class DecisionLine(MachineWritten):
    """What was decided, and where the rollout stood after it."""

    action: Literal["hold", "advance", "promote", "rollback", "finish"]
    reason: str
    message: str
    phase: str
    step: int
    weight: int
    pod_action: PodActionLine | None = None


class LookLine(MachineWritten):
    """One look."""

    kind: Literal["look"] = "look"
    look: int
    time: datetime
    rollout: str
    generation: int
    settings_hash: str
    weights: Weights
    not_ready: list[str] = Field(default_factory=list)
    paused: bool = False
    intervals: Intervals
    verdicts: list[VerdictLine]
    vetoes: list[VetoLine]
    decision: DecisionLine
    actor: str = DAVY
    # Ids of the orders that this look settled: the last is the one that was done.
    orders: list[str] = Field(default_factory=list)
    # Hash of the line before; empty in a record that is not chained.
    previous: str = ""
    # Where the counters stood: (metric, version, pod, detail, segment, Unix time, value).
    cursor: list[tuple[str, str, str, str, str, float, float]] = Field(default_factory=list)

    def observation(self) -> Observation:
        """Return what this look saw."""
        found = self.intervals
        missing = None
        if found.missing_reason is not None:
            missing = Missing(found.missing_reason, found.missing_message or "")
        return Observation(
            weight=self.weights.read,
            counts={
                item.indicator: Counts(
                    item.stable.n,
                    item.stable.k,
                    item.canary.n,
                    item.canary.k,
                    item.stable.node,
                    item.canary.node,
                )
                for item in found.counts
            },
            missing=missing,
            start=found.start,
            end=found.end,
            not_ready=tuple(self.not_ready),
            paused=self.paused,
            honoured=self.weights.honoured,
            vetoes=tuple(Veto(item.name, item.active, item.message) for item in self.vetoes),
            cursor=Cursor({SeriesKey(*item[:5]): Sample(item[5], item[6]) for item in self.cursor}),
            pods=_pods(found.pods),
            absent=found.absent,
            first=found.first,
        )


def _pods(rows: Iterable[tuple[str, str, int, int]]) -> dict[str, tuple[PodCounts, ...]]:
    pods: dict[str, list[PodCounts]] = {}
    for indicator, pod, n, k in rows:
        pods.setdefault(indicator, []).append(PodCounts(pod, n, k))
    return {indicator: tuple(items) for indicator, items in pods.items()}


@dataclass(frozen=True, slots=True)
class Record:
    """A whole record; ``cut_bytes`` counts those of a last line that a crash left unfinished.

    ``tip`` is the hash of its last whole line, empty where it was not read from lines; ``chained``
    says that each look carries the hash of the line before it.
    """

    header: Header
    looks: tuple[LookLine, ...]
    cut_bytes: int = 0
    tip: str = ""
    chained: bool = False

    @property
    def chain(self) -> str:
        """Return in a word whether its lines are known to be unchanged: else reading had failed."""
        return "chained" if self.chained else "unchained"

    @property
    def phase(self) -> Phase:
        """Return where the rollout stood after the last look."""
        return Phase(self.looks[-1].decision.phase) if self.looks else Phase.PENDING

    def spec(self) -> RolloutSpec:
        """Return the spec under which it was decided."""
        return RolloutSpec.model_validate(self.header.spec)


def look_line(
    header: Header,
    asked: int,
    observation: Observation,
    decision: Decision,
    now: datetime,
    *,
    actor: str = DAVY,
    orders: Iterable[str] = (),
) -> LookLine:
    """Return the line of one look.

    Parameters
    ----------
    header : Header
        Of the record.
    asked : int
        The weight that was asked for before the look, in percent.
    observation, decision, now
        What was seen, what was decided on it, and when.
    actor : str
        Who decided: the name of a person for an override.
    orders : iterable of str
        Ids of the orders that are settled by it.
    """
    missing, after = observation.missing, decision.state
    return LookLine(
        look=after.looks,
        time=now,
        rollout=header.rollout,
        generation=header.generation,
        settings_hash=header.settings_hash,
        weights=Weights(asked=asked, read=observation.weight, honoured=observation.honoured),
        not_ready=list(observation.not_ready),
        paused=observation.paused,
        intervals=Intervals(
            start=observation.start,
            end=observation.end,
            counts=[_counts_line(name, item) for name, item in observation.counts.items()],
            missing_reason=missing.reason if missing else None,
            missing_message=missing.message if missing else None,
            pods=[(name, *item) for name, items in observation.pods.items() for item in items],
            absent=dict(observation.absent),
            first=observation.first,
        ),
        verdicts=[verdict_line(verdict) for verdict in decision.verdicts],
        vetoes=[
            VetoLine(name=veto.name, active=veto.active, message=veto.message)
            for veto in observation.vetoes
        ],
        decision=decision_line(decision),
        actor=actor,
        orders=list(orders),
        cursor=[(*key, *sample) for key, sample in observation.cursor.last.items()],
    )


def _counts_line(name: str, counts: Counts) -> IndicatorCounts:
    return IndicatorCounts(
        indicator=name,
        stable=ArmCounts(n=counts.n_stable, k=counts.k_stable, node=counts.node_stable),
        canary=ArmCounts(n=counts.n_canary, k=counts.k_canary, node=counts.node_canary),
    )


def verdict_line(verdict: Verdict) -> VerdictLine:
    """Return a verdict as it is written."""
    ratio: Bounds = verdict.ratio
    return VerdictLine(
        indicator=verdict.indicator,
        outcome=verdict.outcome,
        ratio_lower=ratio.lower,
        ratio_upper=ratio.upper if math.isfinite(ratio.upper) else None,
        rate_lower=verdict.rate.lower,
        rate_upper=verdict.rate.upper,
        reason=verdict.reason,
    )


def decision_line(decision: Decision) -> DecisionLine:
    """Return a decision as it is written."""
    return DecisionLine(
        action=decision.action,
        reason=decision.reason,
        message=decision.message,
        phase=decision.state.phase,
        step=decision.state.step,
        weight=decision.state.weight,
        pod_action=_pod_action(decision.pod_action),
    )


def _pod_action(action: PodAction | None) -> PodActionLine | None:
    return None if action is None else PodActionLine(kind=action.kind, pod=action.pod)


def to_line(entry: Header | LookLine, previous: str = "") -> bytes:
    """Return one line of the file, with its end of line; a look's carries the hash before it."""
    if isinstance(entry, LookLine) and previous:
        entry = entry.model_copy(update={"previous": previous})
    return entry.model_dump_json().encode() + b"\n"


def line_hash(line: bytes) -> str:
    """Return the hash by which the next line names this one, its end of line left out."""
    return hashlib.sha256(line.removesuffix(b"\n")).hexdigest()
