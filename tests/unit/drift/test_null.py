import numpy as np
import pytest
from scipy import stats

from davy.core.errors import InvalidInputError
from davy.drift.null import null_distances


def weeks(rng, n=4, rows=300):
    return {
        week: {
            "price": np.where(rng.random(rows) < 0.1, np.nan, rng.normal(week * 0.1, 1, rows)),
            "department": rng.integers(0, 5, rows),
        }
        for week in range(41, 41 + n)
    }


def test_every_feature_has_the_nulls_of_its_type_sorted():
    rng = np.random.default_rng(1)
    nulls = null_distances(weeks(rng), window_rows=200, draws_per_block=5, rng=rng)
    assert set(nulls) == {("price", "ks"), ("price", "missing"), ("department", "chi2")}
    for values in nulls.values():
        assert values.shape == (20,)
        assert np.all(np.diff(values) >= 0)
        assert values[0] >= 0
        assert values[-1] <= 1


def test_a_whole_block_drawn_once_is_its_distance_to_the_others():
    rng = np.random.default_rng(2)
    blocks = weeks(rng, n=2)
    nulls = null_distances(blocks, window_rows=300, draws_per_block=1, rng=rng)
    left, right = (block["price"][~np.isnan(block["price"])] for block in blocks.values())
    expected = stats.ks_2samp(left, right).statistic
    assert nulls["price", "ks"] == pytest.approx([expected, expected])


def test_the_null_holds_the_differences_between_weeks():
    rng = np.random.default_rng(3)
    steady = {w: {"x": rng.normal(0, 1, 400)} for w in range(6)}
    seasonal = {w: {"x": rng.normal(0.3 * w, 1, 400)} for w in range(6)}
    kwargs = {"window_rows": 200, "draws_per_block": 10}
    calm = null_distances(steady, **kwargs, rng=np.random.default_rng(0))["x", "ks"]
    lively = null_distances(seasonal, **kwargs, rng=np.random.default_rng(0))["x", "ks"]
    assert np.median(lively) > 2 * np.median(calm)


def test_a_block_smaller_than_the_window_is_drawn_with_repetition():
    rng = np.random.default_rng(4)
    nulls = null_distances(weeks(rng, rows=50), window_rows=200, draws_per_block=3, rng=rng)
    assert nulls["price", "ks"].shape == (12,)


def test_a_feature_that_is_never_present_has_only_a_missing_null():
    rng = np.random.default_rng(5)
    blocks = {w: {"gap": np.full(30, np.nan)} for w in range(2)}
    nulls = null_distances(blocks, window_rows=10, draws_per_block=2, rng=rng)
    assert set(nulls) == {("gap", "missing")}
    assert nulls["gap", "missing"].tolist() == [0, 0, 0, 0]


def test_the_same_seed_gives_the_same_nulls():
    blocks = weeks(np.random.default_rng(6))
    first, second = (
        null_distances(blocks, window_rows=100, draws_per_block=4, rng=np.random.default_rng(7))
        for _ in range(2)
    )
    assert all(np.array_equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ({1: {"x": np.ones(3)}}, "1 block"),
        ({1: {"x": np.ones(3)}, 2: {"y": np.ones(3)}}, "features differ.*'x', 'y'"),
        ({1: {"x": np.ones(3)}, 2: {"x": np.ones(0)}}, r"block 2.*above 0; found \[0\]"),
        ({1: {"x": np.ones(3)}, 2: {"x": np.ones(3, int)}}, "'x'.*integer in one block"),
    ],
)
def test_bad_blocks_are_named(blocks, message):
    with pytest.raises(InvalidInputError, match=message):
        null_distances(blocks, window_rows=2, draws_per_block=1, rng=np.random.default_rng(0))


def test_sizes_below_one_are_refused():
    blocks = {1: {"x": np.ones(3)}, 2: {"x": np.ones(3)}}
    with pytest.raises(InvalidInputError, match="window_rows 0"):
        null_distances(blocks, window_rows=0, draws_per_block=1, rng=np.random.default_rng(0))
