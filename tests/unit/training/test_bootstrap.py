from __future__ import annotations

import numpy as np
import pytest

from davy.core.errors import InvalidInputError
from davy.training.bootstrap import holm_intervals, holm_levels, interval, resample


def _one_year(rng, households=60):
    """Requests whose mean is 0 in truth, each household with a level of its own."""
    size = rng.integers(1, 6, size=households)
    units = np.repeat(np.arange(households), size)
    return units, rng.normal(size=households)[units] + rng.normal(size=units.size)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(11)
    covered = by_request = 0
    runs = 400
    for _ in range(runs):
        units, values = _one_year(rng)
        found = interval(resample(units, draws=300, rng=rng), values)
        covered += found.lower <= 0 <= found.upper
        naive = interval(resample(np.arange(units.size), draws=300, rng=rng), values)
        by_request += naive.lower <= 0 <= naive.upper
    assert 0.90 <= covered / runs <= 0.98
    # Drawing requests as if they did not belong together promises too much.
    assert by_request / runs < 0.85


def test_the_same_seed_gives_the_same_interval():
    units, values = _one_year(np.random.default_rng(1))
    first, second = (
        interval(resample(units, draws=100, rng=np.random.default_rng(5)), values) for _ in range(2)
    )
    assert first == second
    assert first.n == values.size
    assert first.lower < first.value < first.upper


def test_a_mask_restricts_the_mean():
    units = np.arange(10)
    values = np.arange(10.0)
    found = interval(resample(units, draws=50, rng=np.random.default_rng(0)), values, values >= 8)
    assert found.value == 8.5
    assert found.n == 2


def test_holm_stops_at_the_first_that_is_not_rejected():
    assert holm_levels([0.001, 0.02, 0.03], alpha=0.03) == pytest.approx([0.01, 0.015, 0.015])
    assert holm_levels([], alpha=0.03) == []


def test_holm_bounds_are_wider_than_single_ones_and_err_rarely_together():
    rng = np.random.default_rng(3)
    wrong = 0
    runs = 200
    for _ in range(runs):
        units, values = _one_year(rng, households=150)
        groups = {f"g{index}": units % 4 == index for index in range(4)}
        draws = resample(units, draws=800, rng=rng)
        found = holm_intervals(draws, values, groups, above=0.0)
        wrong += any(item.lower > 0 for item in found.values())
        assert all(
            item.lower <= interval(draws, values, groups[name]).lower
            for name, item in found.items()
        )
    assert wrong / runs <= 0.07


def test_bad_input_is_named():
    rng = np.random.default_rng(0)
    with pytest.raises(InvalidInputError, match="at least two units, found 1"):
        resample(["a", "a"], draws=10, rng=rng)
    draws = resample([1, 2], draws=10, rng=rng)
    with pytest.raises(InvalidInputError, match="3 values for 2 requests"):
        interval(draws, [1.0, 2.0, 3.0])
    with pytest.raises(InvalidInputError, match="no request counts"):
        interval(draws, [1.0, 2.0], np.array([False, False]))
