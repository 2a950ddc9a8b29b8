import numpy as np
import pytest

from davy.core.errors import InvalidInputError
from davy.outlier.mahalanobis import CLIP, RIDGE, fit_mahalanobis
from davy.outlier.threshold import conformal_threshold


def test_it_is_the_distance_under_the_inverse_covariance(mixed):
    rng = np.random.default_rng(0)
    reference, new = mixed.usual(rng, 1500), mixed.usual(rng, 200)
    scorer = fit_mahalanobis(reference)
    encoded = scorer.encoder.encode(reference).clip(-CLIP, CLIP).astype(np.float64)
    inverse = np.linalg.inv(np.cov(encoded) + RIDGE * np.eye(len(encoded)))
    away = scorer.encoder.encode(new) - encoded.mean(axis=1, keepdims=True)
    expected = np.einsum("ij,ik,kj->j", away, inverse, away)
    np.testing.assert_allclose(scorer.score(new), expected, rtol=1e-3)


@pytest.mark.parametrize("rate", [0.01, 0.001])
def test_injected_faults_are_found_and_usual_rows_are_not(mixed, rate):
    rng = np.random.default_rng(1)
    scorer = fit_mahalanobis(mixed.usual(rng, 3000))
    threshold = conformal_threshold(scorer.score(mixed.usual(rng, 3000)), rate)
    usual = mixed.usual(rng, 3000)
    assert threshold.flags(scorer.score(usual)).mean() <= rate + 3 * np.sqrt(2 * rate / 3000)
    # One row in a thousand is as odd as this combination.
    faults = dict(mixed.FAULTS)
    if rate < 0.01:
        del faults[mixed.impossible_combination]
    for fault, least in faults.items():
        assert threshold.flags(scorer.score(fault(usual))).mean() >= least, fault.__name__


def test_each_value_of_an_impossible_combination_is_usual_alone(mixed):
    rng = np.random.default_rng(2)
    usual = mixed.usual(rng, 3000)
    odd = mixed.impossible_combination(usual)
    for name in ("baskets", "spend"):
        low, high = np.quantile(usual[name], [0.0015, 0.9985])
        assert low <= odd[name][0] <= high


def test_wild_rows_in_the_reference_do_not_make_their_kind_usual(mixed):
    rng = np.random.default_rng(3)
    clean = mixed.usual(rng, 3000)
    dirty = {name: column.copy() for name, column in clean.items()}
    dirty["spend"][:30] *= 1e6
    new = mixed.spend_in_cents(mixed.usual(rng, 500))
    for reference in (clean, dirty):
        scorer = fit_mahalanobis(reference)
        threshold = conformal_threshold(scorer.score(mixed.usual(rng, 1000)), 0.01)
        assert threshold.flags(scorer.score(new)).mean() >= 0.95


def test_columns_that_are_the_same_do_not_make_noise_an_outlier():
    rng = np.random.default_rng(4)
    price = rng.normal(10, 2, 1000)
    scorer = fit_mahalanobis({"price": price, "again": price})
    value = np.array([12.0])
    near = scorer.score({"price": value, "again": value * (1 + 1e-6)})
    assert near[0] < 3
    assert scorer.score({"price": value, "again": value / 1.5})[0] > 100


def test_fewer_rows_than_columns_are_refused(mixed):
    with pytest.raises(InvalidInputError, match="too few for 6 columns"):
        fit_mahalanobis(mixed.usual(np.random.default_rng(5), 7))
