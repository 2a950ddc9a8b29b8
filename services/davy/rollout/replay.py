"""Recompute every decision of a record from the record alone.

Belongs here: folding looks into a state, comparing. Not here: printing (`davy.rollout.explain`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from davy.rollout.decide import Decision, decide
from davy.rollout.override import override
from davy.rollout.record import DAVY, LookLine, Record, decision_line, verdict_line
from davy.rollout.spec import RolloutSpec
from davy.rollout.state import Phase, State

# Bounds may differ by what their search allows (`davy.rollout.search`), decisions may not.
TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class Difference:
    """The first place in which a recomputed look is not what was recorded."""

    look: int
    field: str
    recorded: Any
    recomputed: Any

    def __str__(self) -> str:
        return (
            f"look {self.look}, {self.field}: recorded {self.recorded!r}, "
            f"recomputed {self.recomputed!r}"
        )


@dataclass(frozen=True, slots=True)
class Replay:
    """Outcome of a replay: how many looks agreed, and the first difference if there is one."""

    agreed: int
    difference: Difference | None
    state: State


def replay(record: Record) -> Replay:
    """Recompute the looks of a record in order, up to the first difference."""
    spec, state = record.spec(), State()
    if spec.settings_hash() != record.header.settings_hash:
        found = Difference(0, "settings_hash", record.header.settings_hash, spec.settings_hash())
        return Replay(0, found, state)
    for agreed, line in enumerate(record.looks):
        asked = state.weight
        decision = _recomputed(spec, state, line)
        difference = next(_differences(line, asked, decision), None)
        if difference is not None:
            return Replay(agreed, difference, state)
        state = decision.state
    return Replay(len(record.looks), None, state)


def resume(record: Record) -> State:
    """Return the state after the last look, taking the recorded decisions as they are.

    Cheaper than `replay` by the bounds, which only a decision needs.
    """
    state = State()
    for line in record.looks:
        seen = state.with_observation(line.observation(), line.time)
        phase, step, weight = Phase(line.decision.phase), line.decision.step, line.decision.weight
        if line.decision.action in {"advance", "promote", "rollback"}:
            after = seen.with_weight(phase, step=step, weight=weight)
            state = replace(after, overridden=after.overridden or line.actor != DAVY)
        else:
            state = seen.with_phase(phase)
        asked = line.decision.pod_action
        if asked is not None and asked.kind == "replace":
            state = replace(state, replaced=asked.pod)
    return state


def _recomputed(spec: RolloutSpec, state: State, line: LookLine) -> Decision:
    if line.actor == DAVY:
        return decide(spec, state, line.observation(), line.time)
    # What a person wants is no consequence of the record; what follows from it is.
    weight = 100 if line.decision.weight else 0
    why = line.decision.message
    return override(spec, state, line.observation(), line.time, weight=weight, why=why)


def _differences(line: LookLine, asked: int, decision: Decision) -> Iterator[Difference]:
    if line.weights.asked != asked:
        yield Difference(line.look, "weights.asked", line.weights.asked, asked)
    recomputed = [verdict_line(verdict) for verdict in decision.verdicts]
    names = [item.indicator for item in recomputed]
    if [item.indicator for item in line.verdicts] != names:
        recorded = [item.indicator for item in line.verdicts]
        yield Difference(line.look, "verdicts", recorded, names)
    for was, now in zip(line.verdicts, recomputed, strict=False):
        old, new = was.model_dump(exclude={"reason"}), now.model_dump(exclude={"reason"})
        for key, value in new.items():
            if not _same(old[key], value):
                place = f"verdicts.{now.indicator}.{key}"
                yield Difference(line.look, place, old[key], value)
    old = line.decision.model_dump(exclude={"message"})
    for key, value in decision_line(decision).model_dump(exclude={"message"}).items():
        if old[key] != value:
            yield Difference(line.look, f"decision.{key}", old[key], value)


def _same(old: object, new: object) -> bool:
    if isinstance(old, float) and isinstance(new, float):
        return abs(old - new) <= TOLERANCE * max(abs(old), abs(new))
    return old == new
