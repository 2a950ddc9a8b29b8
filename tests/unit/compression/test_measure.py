from __future__ import annotations

import itertools
from datetime import UTC, datetime

import numpy as np
import pytest

from davy.compression.candidates import Made
from davy.compression.measure import latencies, measure
from davy.core.clock import ManualClock
from davy.core.errors import InvalidInputError
from davy.training.examples import read_examples
from davy.training.timing import ROUNDS

NOW = datetime(2017, 1, 1, tzinfo=UTC)


class StandInSession:
    """Takes the seconds it is told to."""

    def __init__(self, clock, seconds):
        self.clock = clock
        self.seconds = itertools.cycle(seconds)

    def run(self, outputs, inputs):
        self.clock.sleep(next(self.seconds))
        return [np.zeros(1)]


def test_a_busy_neighbour_does_not_count():
    clock = ManualClock(NOW)
    sessions = {
        "slow": StandInSession(clock, [0.2, 0.2, 0.9]),
        "fast": StandInSession(clock, [0.1, 5.0, 0.1]),
    }
    times = latencies(sessions, {}, clock)
    assert times["slow"].shape == (ROUNDS,)
    assert times["slow"] == pytest.approx(np.full(ROUNDS, 0.2))
    assert times["fast"] == pytest.approx(np.full(ROUNDS, 0.1))


def test_candidates_are_measured_on_the_same_requests(compressed, features, make_task):
    task = make_task()
    test = read_examples(task, features / "test.parquet")
    made = [
        Made(name, compressed / f"{file}.onnx", {"note": name})
        for name, file in (("fp32", "fp32"), ("int8", "fp32"), ("pruned", "pruned"))
    ]
    fp32, same, other = measure(task, made, test, ManualClock(NOW))
    assert fp32.difference is None
    assert fp32.bytes == (compressed / "fp32.onnx").stat().st_size
    # The same file: paired over requests there is no difference, and no doubt about it.
    assert (same.difference.value, same.difference.lower, same.difference.upper) == (0, 0, 0)
    assert other.quality.value - fp32.quality.value == pytest.approx(other.difference.value)
    assert other.difference.lower < other.difference.value < other.difference.upper
    width = other.difference.upper - other.difference.lower
    assert width < 0.5 * (other.quality.upper - other.quality.lower)
    assert set(other.segments) == {"shopper=often", "shopper=seldom"}
    assert all(segment.level >= 0.95 for segment in other.segments.values())
    assert other.details == {"note": "pruned"}
    assert other.batch == 12


def test_fp32_comes_first(compressed, features, make_task):
    test = read_examples(make_task(), features / "test.parquet")
    with pytest.raises(InvalidInputError, match="fp32 must come first"):
        measure(
            make_task(),
            [Made("int8", compressed / "int8.onnx", {})],
            test,
            ManualClock(NOW),
        )
