"""Shapley sampling against what can be computed without it."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from davy.core.errors import InvalidInputError
from davy.predictor.shapley import ROUND_ROWS, Attributions, attribute

Columns = Mapping[str, np.ndarray]


def curved(columns: Columns) -> np.ndarray:
    """Three features that matter together, and a fourth that does not."""
    a, b, c = columns["a"], columns["b"], columns["c"]
    return 1 / (1 + np.exp(-(a * b - 0.7 * c + 0.2 * a * b * c)))


def table(rows: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=rows) for name in ("a", "b", "c", "ignored")}


def sampled(rows: Columns, background: Columns, walks: int = 2000, seed: int = 1) -> Attributions:
    return attribute(
        curved,
        rows,
        background,
        rng=np.random.default_rng(seed),
        more=lambda _: True,
        max_walks=walks,
    )


def exact(rows: Columns, background: Columns) -> np.ndarray:
    """Return the Shapley values by their definition: over all orders and background rows."""
    names = list(rows)
    held = len(background["a"])
    values = np.zeros((len(rows["a"]), len(names)))
    for row in range(len(values)):
        for order in itertools.permutations(range(len(names))):
            mixed = {name: column.copy() for name, column in background.items()}
            before = curved(mixed).mean()
            for place in order:
                mixed[names[place]] = np.full(held, rows[names[place]][row])
                after = curved(mixed).mean()
                values[row, place] += after - before
                before = after
    return values / math.factorial(len(names))


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 5),
    held=st.integers(1, 9),
    walks=st.integers(1, 60),
    seed=st.integers(0, 1000),
)
def test_attributions_and_base_value_add_up_to_the_score(
    rows: int, held: int, walks: int, seed: int
) -> None:
    data = table(rows, seed)
    found = sampled(data, table(held, seed + 1), walks, seed)
    np.testing.assert_allclose(found.base + found.values.sum(axis=1), curved(data), atol=1e-12)


def test_the_brute_force_values_within_the_standard_error() -> None:
    data, background = table(4, 1), table(20, 2)
    found = sampled(data, background, 4000)
    off = np.abs(found.values - exact(data, background))
    assert found.walks == 4000
    assert 0 < found.errors[:, :3].max() < 0.02
    # 12 figures: four standard errors are missed by one in a thousand such tests.
    assert (off[:, :3] <= 4 * found.errors[:, :3]).all()


def test_a_feature_that_the_model_ignores_gets_nothing() -> None:
    found = sampled(table(3, 1), table(10, 2), 100)
    assert found.features == ("a", "b", "c", "ignored")
    assert not found.values[:, 3].any()
    assert not found.errors[:, 3].any()


@pytest.mark.parametrize(("held", "lowest"), [(20, 0.0), (5000, 0.7)])
def test_the_error_is_how_far_repetitions_spread_or_more(held: int, lowest: float) -> None:
    data, background = table(1, 1), table(held, 2)
    runs = [sampled(data, background, 200, seed) for seed in range(100)]
    spread = np.std([run.values[0] for run in runs], axis=0, ddof=1)[:3]
    said = np.mean([run.errors[0] for run in runs], axis=0)[:3]
    # Few background rows are all drawn, again and again, which the error leaves out.
    assert (lowest * said < spread).all()
    assert (spread < 1.3 * said).all()


def test_the_same_seed_gives_the_same_values() -> None:
    data, background = table(2, 1), table(10, 2)
    first, again, other = (sampled(data, background, 50, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.values, again.values)
    assert (first.values != other.values).any()


def test_it_goes_on_while_there_is_more() -> None:
    asked: list[int] = []

    def more(walks: int) -> bool:
        asked.append(walks)
        return len(asked) < 3

    found = attribute(
        curved, table(3, 1), table(9, 2), rng=np.random.default_rng(1), more=more, max_walks=10**6
    )
    assert asked[0] == 0
    assert 0 < asked[1] < asked[2] == found.walks


def test_rows_are_scored_in_bounded_batches() -> None:
    sizes: list[int] = []

    def score(columns: Columns) -> np.ndarray:
        sizes.append(len(columns["a"]))
        return curved(columns)

    attribute(
        score,
        table(400, 1),
        table(9, 2),
        rng=np.random.default_rng(1),
        more=lambda _: True,
        max_walks=10,
    )
    assert max(sizes) <= ROUND_ROWS


def test_a_feature_of_several_numbers_is_one_feature() -> None:
    rng = np.random.default_rng(1)
    weights = np.array([1.0, -2.0, 0.5])

    def score(columns: Columns) -> np.ndarray:
        return columns["vector"] @ weights + columns["word"].astype(str).view(np.ndarray).size * 0

    rows: dict[str, Any] = {
        "vector": rng.normal(size=(2, 3)),
        "word": np.array([b"x", b"y"], dtype=object),
    }
    background = {
        "vector": rng.normal(size=(5, 3)),
        "word": np.array([b"z"] * 5, dtype=object),
    }
    found = attribute(
        score, rows, background, rng=np.random.default_rng(2), more=lambda _: True, max_walks=10
    )
    expected = rows["vector"] @ weights - (background["vector"] @ weights).mean()
    np.testing.assert_allclose(found.values[:, 0], expected, atol=1e-12)


def test_one_feature_gets_all() -> None:
    found = attribute(
        lambda columns: columns["a"] ** 2,
        {"a": np.array([3.0])},
        {"a": np.array([1.0, 2.0])},
        rng=np.random.default_rng(1),
        more=lambda _: True,
        max_walks=4,
    )
    assert found.values.tolist() == [[6.5]]
    assert found.base.tolist() == [2.5]


def test_what_cannot_be_explained_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no rows to explain against"):
        sampled(table(1, 1), table(0, 2))
    rows = table(1, 1)
    rows["a"][0] = np.nan
    with pytest.raises(InvalidInputError, match="not a finite number"):
        sampled(rows, table(3, 2))
