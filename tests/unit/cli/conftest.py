"""Decision records made by the gate's own decisions, for the tests of the commands."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import pytest

from davy.rollout.decide import decide
from davy.rollout.record import Header, look_line, to_line
from davy.rollout.spec import RolloutSpec
from davy.rollout.state import Observation, State
from davy.rollout.verdict import Counts

START = datetime(2017, 1, 2, tzinfo=UTC)
STEP = 30


class WriteRecord(Protocol):
    def __call__(
        self,
        folder: Path,
        *,
        looks: int,
        bad: int = 0,
        name: str = ...,
        also: Mapping[str, Counts] = ...,
    ) -> Path: ...


@pytest.fixture
def write_record() -> WriteRecord:
    return _write_record


def _write_record(
    folder: Path,
    *,
    looks: int,
    bad: int = 0,
    name: str = "next-basket",
    also: Mapping[str, Counts] = MappingProxyType({}),
    **spec_changes: Any,
) -> Path:
    """Write a record of so many looks; of 100 canary requests at each, `bad` are errors.

    ``also`` is counted of other indicators at each look.
    """
    spec = RolloutSpec.model_validate(
        {
            "candidate": {"version": "v2"},
            "steps": [{"weight": 5}, {"weight": 50}],
            "analysis": {"indicators": [{"name": "errors", "allowance": 0.01}], "vetoes": []},
        }
        | spec_changes
    )
    header = Header(
        time=START,
        rollout=name,
        generation=1,
        settings_hash=spec.settings_hash(),
        spec=spec.document(),
        stable="v1",
        canary="v2",
        latency_objective_seconds=0.1,
    )
    lines, state = [to_line(header)], State()
    for look in range(looks):
        now = START + timedelta(seconds=STEP * look)
        counts = Counts(1900, 2, 100, bad) if state.weight == 5 else Counts(100, 0, 0, 0)
        seen = Observation(
            weight=state.weight,
            counts={"errors": counts, **also},
            start=now.timestamp() - STEP,
            end=now.timestamp(),
            honoured=now.timestamp() - STEP,
        )
        decision = decide(spec, state, seen, now)
        lines.append(to_line(look_line(header, state.weight, seen, decision, now)))
        state = decision.state
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "record.jsonl"
    path.write_bytes(b"".join(lines))
    return path
