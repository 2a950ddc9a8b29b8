import numpy as np
import pytest

from davy.core.errors import InvalidInputError
from davy.outlier.encode import CATEGORIES, fit_encoder


def test_columns_are_standardised_on_the_reference(mixed):
    rows = mixed.usual(np.random.default_rng(0), 4000)
    encoder = fit_encoder(rows)
    encoded = encoder.encode(rows)
    assert encoded.shape == (encoder.width, 4000) == (6, 4000)
    assert np.abs(encoded.mean(axis=1)).max() < 0.01
    # Missing gaps sit at their mean, so the gap itself spreads less.
    spread = dict(zip((*encoder.numbers, "no gap", "department"), encoded.std(axis=1), strict=True))
    assert spread.pop("gap") == pytest.approx(np.sqrt(0.7), abs=0.02)
    assert list(spread.values()) == pytest.approx([1.0] * 5, abs=0.01)


def test_only_skewed_numbers_go_through_the_logarithm():
    rng = np.random.default_rng(1)
    rows = {"plain": rng.normal(5, 2, 500), "skewed": rng.lognormal(0, 2, 500)}
    encoder = fit_encoder(rows)
    assert encoder.numbers == ("skewed", "plain")
    scale, mean, deviation = encoder.scale[0], encoder.mean[0], encoder.deviation[0]
    values = np.array([0.0, 3.0, -3.0])
    found = encoder.encode({"plain": values, "skewed": values})[0]
    expected = (np.sign(values) * np.log1p(np.abs(values) / scale) - mean) / deviation
    assert found == pytest.approx(expected, abs=1e-5)


def test_a_missing_value_is_a_column_only_where_the_reference_has_some():
    rows = {"some": np.array([1.0, 2.0, np.nan, 4.0]), "none": np.array([1.0, 2.0, 3.0, 4.0])}
    encoder = fit_encoder(rows)
    assert encoder.width == 3
    found = encoder.encode({"some": np.array([np.nan]), "none": np.array([np.nan])})
    assert found[:2, 0].tolist() == [0.0, 0.0]
    assert found[2, 0] == pytest.approx((1 - 0.25) / np.sqrt(0.25 * 0.75))


def test_the_rarer_a_category_the_larger_its_column_and_unknown_ones_are_the_rarest():
    codes = np.repeat([3, 4, 7], [60, 30, 10])
    encoder = fit_encoder({"aisle": codes})
    usual = encoder.encode({"aisle": np.array([3, 4, 7])})[0]
    assert usual[0] < usual[1] < usual[2]
    unknown = np.array([2, 5, 8, -(2**62), 2**62, np.iinfo(np.int64).min, np.iinfo(np.int64).max])
    strange = encoder.encode({"aisle": unknown})[0]
    assert len(set(strange.tolist())) == 1
    assert strange[0] > usual[2]


def test_two_categories_do_not_read_each_others_table():
    rows = {"one": np.repeat([0, 1], [90, 10]), "two": np.repeat([5, 6, 7], [10, 20, 70])}
    both = fit_encoder(rows)
    alone = [fit_encoder({name: rows[name]}) for name in rows]
    asked = {"one": np.array([0, 1, 2, 1]), "two": np.array([7, 5, 4, 8])}
    expected = [encoder.encode(asked)[0] for encoder in alone]
    assert both.encode(asked) == pytest.approx(np.array(expected))


def test_an_integer_of_many_values_is_a_number():
    rng = np.random.default_rng(2)
    encoder = fit_encoder(
        {"count": rng.integers(0, 4 * CATEGORIES, 5000), "large": np.arange(5000) * 10**9}
    )
    assert encoder.numbers == ("count", "large")


def test_what_does_not_vary_is_left_out():
    rows = {
        "price": np.array([1.0, 2.0]),
        "same": np.array([5.0, 5.0]),
        "empty": np.array([np.nan, np.nan]),
        "one": np.array([3, 3]),
    }
    encoder = fit_encoder(rows)
    assert (encoder.numbers, encoder.categories) == (("price",), ())
    with pytest.raises(InvalidInputError, match="no feature varies"):
        fit_encoder({name: rows[name] for name in ("same", "empty", "one")})


def test_a_feature_that_is_not_there_is_named(mixed):
    rows = mixed.usual(np.random.default_rng(3), 50)
    encoder = fit_encoder(rows)
    del rows["price"]
    with pytest.raises(InvalidInputError, match="feature 'price': is missing"):
        encoder.encode(rows)


def test_texts_are_refused():
    with pytest.raises(InvalidInputError, match="feature 'name'"):
        fit_encoder({"name": np.array(["a", "b"], dtype=object)})


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_datatype_of_a_number_means_nothing(dtype):
    rows = {"a": np.array([1, 2, 4], dtype), "b": np.array([1, 0, 3], np.int8)}
    encoder = fit_encoder(rows)
    expected = [[-1.07, -0.27, 1.34]]
    assert encoder.encode(rows)[:1].round(2).tolist() == [pytest.approx(row) for row in expected]


def test_what_is_encoded_is_left_as_it_was(mixed):
    rows = mixed.usual(np.random.default_rng(4), 100)
    before = {name: column.copy() for name, column in rows.items()}
    fit_encoder(rows).encode(rows)
    for name, column in rows.items():
        np.testing.assert_array_equal(column, before[name])
