import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from davy.core.errors import InvalidInputError
from davy.drift.distance import column, kolmogorov_smirnov, missing_share, total_variation

samples = st.lists(st.integers(-5, 5), min_size=1, max_size=40).map(np.array)


@given(samples, samples)
def test_kolmogorov_smirnov_is_scipys_with_ties_too(sample, reference):
    expected = stats.ks_2samp(sample, reference).statistic
    assert kolmogorov_smirnov(sample, np.sort(reference)) == pytest.approx(expected)


@given(samples, samples)
@example(np.array([-3]), np.array([0, 1, -1, 2, 2, -2]))
def test_total_variation_is_symmetric_and_a_share(sample, reference):
    distance = total_variation(sample, reference)
    assert 0 <= distance <= 1
    assert distance == pytest.approx(total_variation(reference, sample))


def test_total_variation_of_strangers_is_one():
    assert total_variation(np.array([1, 2]), np.array([3])) == 1


def test_missing_share():
    assert missing_share(np.array([np.nan, 1.0, 2.0, np.nan])) == 0.5


def test_a_feature_that_the_window_lacks_is_named():
    with pytest.raises(InvalidInputError, match=r"feature 'price'.*not in the window"):
        column({"other": np.ones(2)}, "price", like=np.ones(2))


def test_a_feature_of_another_type_is_named():
    with pytest.raises(InvalidInputError, match=r"feature 'price'.*int64 in the window"):
        column({"price": np.ones(2, int)}, "price", like=np.ones(2))
