from __future__ import annotations

import itertools
from datetime import UTC, datetime

import numpy as np
import pytest

from davy.core.clock import ManualClock
from davy.training.timing import ROUNDS, RUNS_PER_ROUND, WARM_UP_RUNS, median_interval, side_by_side


def test_they_take_turns_and_the_fastest_of_a_round_counts():
    clock = ManualClock(datetime(2017, 1, 1, tzinfo=UTC))
    called = []

    def take(name, seconds):
        durations = itertools.cycle(seconds)

        def run():
            called.append(name)
            clock.sleep(next(durations))

        return run

    times = side_by_side({"a": take("a", [0.2, 0.9]), "b": take("b", [5.0, 0.1])}, clock)
    assert times["a"] == pytest.approx(np.full(ROUNDS, 0.2))
    assert times["b"] == pytest.approx(np.full(ROUNDS, 0.1))
    first = [name for name, _ in itertools.groupby(called[2 * WARM_UP_RUNS :])]
    # Who was last in a round is first in the next, so that turns join there.
    assert first == ["a", *itertools.islice(itertools.cycle("ba"), ROUNDS)]
    assert len(called) == 2 * (WARM_UP_RUNS + ROUNDS * RUNS_PER_ROUND)


def test_the_interval_of_the_median_covers_it_about_as_often_as_it_says():
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(500):
        found = median_interval(rng.lognormal(size=ROUNDS))
        covered += found.lower <= 1.0 <= found.upper
    assert 0.92 <= covered / 500 <= 0.99
