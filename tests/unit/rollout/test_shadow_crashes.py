"""The step before the first weight, killed at every side effect: it comes to the same end."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.crashing_journal import JournalThatMayCrash
from tests.fixtures.kill_sweeps import CRASH_POINTS
from tests.fixtures.rollout_cluster import CrashedHereError
from tests.fixtures.shadow_cluster import SHADOW, StandInShadow, engine, place, spec

from davy.rollout.record_file import read_record
from davy.rollout.replay import replay


def crashing_run(folder: Path, crash_at: int, **cluster: Any) -> tuple[StandInShadow, int]:
    where = place(crash_at=crash_at, rate=2000.0, sent=200.0, **cluster)
    for process in range(1, 4):
        with JournalThatMayCrash(folder, where) as journal:
            try:
                engine(where, journal, spec(SHADOW)).run()
            except CrashedHereError:
                continue
            return where, process
    raise AssertionError("did not end")


@pytest.mark.parametrize("wrong", [0.0, 0.2])
def test_a_crash_between_any_two_side_effects_changes_nothing(
    tmp_path: Path, wrong: float, record_property: Any
) -> None:
    whole, processes = crashing_run(tmp_path / "whole", -1, wrong=wrong)
    assert processes == 1
    ends = read_record(tmp_path / "whole" / "record.jsonl").looks[-1].decision.phase
    crashed = 0
    for point in range(1, whole.effects + 1):
        folder = tmp_path / str(point)
        where, processes = crashing_run(folder, point, wrong=wrong)
        crashed += processes - 1
        record = read_record(folder / "record.jsonl")
        assert replay(record).difference is None
        assert record.looks[-1].decision.phase == ends
        assert not where.mirrored, "requests go on to a canary that has ended or serves"
        assert all(not mirrored for percent, mirrored in where.weights if percent)
        distinct = [w for w, _ in itertools.groupby(where.asked)]
        assert distinct == [w for w, _ in itertools.groupby(whole.asked)]
        if wrong:
            assert set(where.asked) == {0}
    assert crashed == whole.effects
    record_property(CRASH_POINTS, crashed)
