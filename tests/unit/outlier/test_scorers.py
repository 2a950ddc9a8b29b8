"""The conformance kit: what holds for one scorer holds for all; alibi-detect's are an oracle."""

import numpy as np
import pytest

from davy.core.errors import InvalidInputError
from davy.outlier.alibi import fit_alibi_forest, fit_alibi_mahalanobis
from davy.outlier.forest_fit import fit_forest
from davy.outlier.mahalanobis import fit_mahalanobis
from davy.outlier.threshold import conformal_threshold

FITS = {
    "mahalanobis": fit_mahalanobis,
    "mahalanobis, alibi": fit_alibi_mahalanobis,
    "isolation forest": lambda rows: fit_forest(rows, seed=3, trees=50),
    "isolation forest, alibi": lambda rows: fit_alibi_forest(rows, seed=3, trees=50),
}
PAIRS = (
    ("mahalanobis", "mahalanobis, alibi", 0.0),
    ("isolation forest", "isolation forest, alibi", 0.5),
)


@pytest.fixture(scope="module")
def scorers(mixed):
    reference = mixed.usual(np.random.default_rng(0), 2000)
    return {name: fit(reference) for name, fit in FITS.items()}


@pytest.fixture(params=FITS)
def scorer(request, scorers):
    return scorers[request.param]


def test_there_is_one_score_a_row_whatever_is_beside_it(mixed, scorer):
    rows = mixed.usual(np.random.default_rng(1), 40)
    scores = scorer.score(rows)
    assert (scores.shape, scores.dtype) == ((40,), np.float32)
    turned = scorer.score({name: column[::-1] for name, column in rows.items()})
    np.testing.assert_allclose(turned[::-1], scores, rtol=1e-5)
    alone = scorer.score({name: column[7:8] for name, column in rows.items()})
    np.testing.assert_allclose(alone, scores[7:8], rtol=1e-5)
    np.testing.assert_array_equal(scorer.score(rows), scores)


def test_a_row_far_out_is_stranger_than_all_usual_ones(mixed, scorer):
    rng = np.random.default_rng(2)
    usual = scorer.score(mixed.usual(rng, 300))
    far = {
        "baskets": np.array([400.0]),
        "spend": np.array([1.0]),
        "price": np.array([150.0]),
        "gap": np.array([3000.0]),
        "department": np.array([5]),
    }
    assert scorer.score(far)[0] > usual.max()


def test_a_held_out_rate_is_kept(mixed, scorer):
    rng = np.random.default_rng(3)
    threshold = conformal_threshold(scorer.score(mixed.usual(rng, 400)), 0.05)
    share = threshold.flags(scorer.score(mixed.usual(rng, 400))).mean()
    # Three standard deviations: of 400 new rows, and of what 400 calibration rows are worth.
    assert abs(share - 0.05) <= 3 * np.sqrt(2 * 0.05 * 0.95 / 400)


def test_a_feature_that_is_not_there_is_named(mixed, scorer):
    rows = mixed.usual(np.random.default_rng(4), 3)
    del rows["spend"]
    with pytest.raises(InvalidInputError, match="feature 'spend'"):
        scorer.score(rows)


@pytest.mark.parametrize(("ours", "theirs", "shift"), PAIRS)
def test_both_engines_give_the_same_scores(mixed, scorers, ours, theirs, shift):
    rng = np.random.default_rng(5)
    for change in (dict, *mixed.FAULTS):
        rows = change(mixed.usual(rng, 50))
        left, right = (scorers[name].score(rows) for name in (ours, theirs))
        np.testing.assert_allclose(left, right + shift, rtol=1e-4)


def test_a_forest_that_alibi_detect_grew_travels_as_arrays(mixed, scorers):
    rows = mixed.usual(np.random.default_rng(6), 50)
    grown = scorers["isolation forest, alibi"].forest()
    np.testing.assert_array_equal(grown.score(rows), scorers["isolation forest"].score(rows))
