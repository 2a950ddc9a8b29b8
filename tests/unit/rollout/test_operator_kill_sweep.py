"""The operator is killed between any two writes, in memory: it comes to the same end each time."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from tests.fixtures.kill_sweeps import CRASH_POINTS
from tests.fixtures.operator_cluster import SPEC, OperatorBed, actions, drive, told

from davy.rollout.replay import replay


def outcome(bed: OperatorBed, attempt: int) -> tuple[Any, ...]:
    """What must be the same however often the operator was killed."""
    record = bed.record(attempt=attempt)
    assert [line.look for line in record.looks] == list(range(1, len(record.looks) + 1))
    spans = [(line.intervals.start, line.intervals.end) for line in record.looks
             if line.intervals.start is not None]  # fmt: skip
    for (_, end), (start, _) in itertools.pairwise(spans):
        assert start >= end, "requests were counted twice"
    assert replay(record).difference is None
    # A canary that was made has weight 0: that is not asked for again after a crash.
    asked = [weight for weight, _ in itertools.groupby([0, *bed.cluster.asked])]
    service = bed.service
    assert service is not None
    notes = [(key, note.reason) for key, note in bed.notes.items() if note.key.endswith("end")]
    return bed.of().phase, asked, actions(record), told(bed), service.stable, service.canary, (
        service.lost, len(notes)
    )  # fmt: skip


def scenario_promote(crash_at: int) -> tuple[OperatorBed, int]:
    bed = OperatorBed(crash_at=crash_at)
    bed.apply()
    return bed, drive(bed)


def scenario_roll_back(crash_at: int) -> tuple[OperatorBed, int]:
    bed = OperatorBed(crash_at=crash_at, errors=0.2)
    bed.apply()
    return bed, drive(bed)


def scenario_baseline(crash_at: int) -> tuple[OperatorBed, int]:
    bed = OperatorBed(crash_at=crash_at)
    analysis = {**SPEC["analysis"], "baseline": True}
    bed.apply(steps=[{"weight": 5}, {"weight": 40}], analysis=analysis)
    crashes = drive(bed)
    shares = [status.document().get("weights") for status in bed.statuses]
    assert {"stable": 20, "canary": 40, "baseline": 40} in shares
    assert bed.record().header.baseline == "v1+baseline"
    return bed, crashes


def scenario_begin_anew(crash_at: int) -> tuple[OperatorBed, int]:
    bed = OperatorBed(crash_at=crash_at)
    bed.apply()
    crashes = 0
    while bed.of().step < 1:
        crashes += drive(bed, ticks=1)
    bed.apply(candidate={"version": "v3", "packageURI": "s3://models/v3"})
    return bed, crashes + drive(bed)


def scenario_delete(crash_at: int) -> tuple[OperatorBed, int]:
    bed = OperatorBed(crash_at=crash_at)
    bed.apply()
    crashes = 0
    while bed.of().step < 1:
        crashes += drive(bed, ticks=1)
    bed.delete()
    return bed, crashes + drive(bed)


@pytest.mark.parametrize(
    ("scenario", "attempt"),
    [
        (scenario_promote, 1),
        (scenario_roll_back, 1),
        (scenario_baseline, 1),
        (scenario_begin_anew, 2),
        (scenario_delete, 1),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_killed_before_or_after_any_write_it_comes_to_the_same_end(
    scenario: Any, attempt: int, record_property: Callable[[str, object], None]
) -> None:
    bed, crashes = scenario(-1)
    assert crashes == 0
    wanted, writes = outcome(bed, attempt), bed.cluster.effects
    for at in range(1, writes + 1):
        bed, crashes = scenario(at)
        assert crashes == 1, f"write {at} was not reached"
        assert outcome(bed, attempt) == wanted, f"killed at {at} of {writes}"
    record_property(CRASH_POINTS, writes)
