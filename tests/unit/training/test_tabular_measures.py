"""Intervals over a table: whole entities are drawn, one vector of weights at a time."""

import tracemalloc

import numpy as np
import pytest

from davy.core.errors import InvalidInputError
from davy.training.bootstrap import draw_weights, resample
from davy.training.tabular_measures import DRAWS, measure_all


def test_one_draw_after_another_is_the_same_as_all_at_once():
    unit = np.repeat(np.arange(40), 3)
    together = resample(unit, draws=20, rng=np.random.default_rng(5))
    single = np.stack(list(draw_weights(unit, draws=20, rng=np.random.default_rng(5))))
    np.testing.assert_array_equal(single, together.counts[:, together.unit])
    # Rows of one entity come and go together, and the number of entities stays.
    assert (single[:, ::3] == single[:, 2::3]).all()
    assert (single.sum(axis=1) == 120).all()


def test_one_entity_gives_no_interval():
    with pytest.raises(InvalidInputError, match="at least two units"):
        next(draw_weights(np.zeros(9), draws=1, rng=np.random.default_rng(0)))


def test_an_interval_of_rows_of_few_entities_is_wider():
    rng = np.random.default_rng(0)
    taste = np.repeat(rng.normal(size=50), 20)
    label = taste + rng.normal(0, 0.1, 1000)
    guess = np.zeros(1000)

    def width(unit):
        found = measure_all("regression", label, guess, guess, unit, {}, seed=1)["mae"].overall
        return found.upper - found.lower

    assert width(np.arange(1000)) * 2 < width(np.repeat(np.arange(50), 20))


def test_memory_does_not_grow_with_the_number_of_draws():
    rows = 40_000
    rng = np.random.default_rng(0)
    label = (rng.random(rows) < 0.3).astype(float)
    score = rng.random(rows)
    tracemalloc.start()
    try:
        measure_all("binary", label, score, label, np.arange(rows), {}, seed=1, only="brier")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # All draws at once would be DRAWS vectors of float64.
    assert most < DRAWS * rows * 8 / 5


def test_a_segment_of_one_class_has_no_measure_that_needs_two():
    rng = np.random.default_rng(0)
    label = (rng.random(400) < 0.5).astype(float)
    score = np.clip(label * 0.4 + rng.random(400) * 0.6, 0, 1)
    segments = {"half": np.arange(400) < 200, "ones": label == 1, "none": np.zeros(400, bool)}
    found = measure_all(
        "binary", label, score, (score > 0.5).astype(float), np.arange(400), segments, seed=1
    )
    assert set(found["roc_auc"].segments) == {"half"}
    assert set(found["accuracy"].segments) == {"half", "ones"}
    inside = found["roc_auc"].overall
    assert inside.lower < inside.value < inside.upper
    assert inside.n == 400
