import numpy as np
import pytest

from davy.drift.describe import compare, examples


def test_numbers_are_compared_by_quantiles_without_the_missing():
    reference = np.arange(101.0)
    window = np.append(reference * 2, np.nan)
    shown = {item.what: (item.reference, item.window) for item in compare("ks", reference, window)}
    assert shown["median"] == (50, 100)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("window", "quantiles"),
    [
        ([np.inf] * 4, [np.inf] * 3),
        ([1.0, 2.0, 3.0, np.inf], [1, 2, np.inf]),
        ([-np.inf, -np.inf, np.inf, np.nan], [-np.inf, -np.inf, np.inf]),
    ],
)
def test_between_infinite_values_no_quantile_is_made_up(window, quantiles):
    shown = compare("ks", np.arange(101.0), np.array(window))
    assert [item.window for item in shown] == quantiles


def test_a_feature_with_no_value_left_has_no_quantile():
    assert compare("ks", np.array([1.0]), np.array([np.nan]))[0].window is None


def test_the_categories_that_changed_most_come_first():
    reference = np.array([1, 1, 2, 2, 3, 3, 4, 4])
    window = np.array([1, 1, 2, 2, 3, 4, 4, 4])
    shown = compare("chi2", reference, window)
    assert [item.what for item in shown][:2] == ["share of 3", "share of 4"]
    assert len(shown) == 3


def test_examples_are_plain_numbers_with_none_for_missing():
    assert examples(np.array([1.5, np.nan])) == (1.5, None)
    assert examples(np.array([7, 8], np.int64)) == (7, 8)
