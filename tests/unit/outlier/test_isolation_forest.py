import sys
import tracemalloc

import numpy as np
import pytest
from sklearn.ensemble import IsolationForest as Grown

from davy.core.errors import MissingDependencyError
from davy.outlier.forest_fit import as_arrays, fit_forest
from davy.outlier.threshold import conformal_threshold


@pytest.mark.parametrize("options", [{}, {"max_samples": 20}, {"max_features": 3}])
def test_the_scores_are_those_of_scikit_learn(mixed, options):
    rng = np.random.default_rng(0)
    reference = mixed.usual(rng, 1000)
    encoder = fit_forest(reference, trees=1).encoder
    theirs = Grown(n_estimators=40, random_state=5, **options).fit(encoder.encode(reference).T)
    ours = as_arrays(encoder, theirs)
    for change in (dict, *mixed.FAULTS):
        rows = change(mixed.usual(rng, 200))
        expected = -theirs.score_samples(encoder.encode(rows).T)
        np.testing.assert_allclose(ours.score(rows), expected, rtol=1e-6)


def test_a_swapped_unit_is_flagged_more_often_than_usual_rows(mixed):
    """Less often than by Mahalanobis: a forest cannot tell how far beyond its edge a value is."""
    rng = np.random.default_rng(1)
    scorer = fit_forest(mixed.usual(rng, 2000), seed=1)
    threshold = conformal_threshold(scorer.score(mixed.usual(rng, 2000)), 0.02)
    usual = mixed.usual(rng, 2000)
    assert threshold.flags(scorer.score(usual)).mean() <= 0.035
    assert threshold.flags(scorer.score(mixed.spend_in_cents(usual))).mean() >= 0.1


def test_the_seed_decides(mixed):
    reference = mixed.usual(np.random.default_rng(2), 300)
    one, same, other = (fit_forest(reference, seed=seed, trees=5) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.score(reference), same.score(reference))
    assert (one.score(reference) != other.score(reference)).any()


def test_an_infinite_value_has_no_score(mixed):
    rows = mixed.usual(np.random.default_rng(3), 300)
    scorer = fit_forest(rows, trees=5)
    rows["spend"][4] = np.inf
    assert np.flatnonzero(np.isnan(scorer.score(rows))).tolist() == [4]


def test_memory_is_for_some_rows_at_a_time_whatever_is_asked(mixed):
    scorer = fit_forest(mixed.usual(np.random.default_rng(5), 300), trees=100)
    rows = mixed.usual(np.random.default_rng(6), 20_000)
    encoded = scorer.encoder.encode(rows).nbytes
    tracemalloc.start()
    try:
        found = scorer.score(rows)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # One number for each tree and row would be 16 MB, and scoring holds several at a time.
    assert peak < 4 * encoded + 8e6
    part = {name: values[990:2010] for name, values in rows.items()}
    np.testing.assert_array_equal(found[990:2010], scorer.score(part))


def test_no_rows_have_no_scores(mixed):
    rows = mixed.usual(np.random.default_rng(7), 300)
    scorer = fit_forest(rows, trees=5)
    none = scorer.score({name: values[:0] for name, values in rows.items()})
    assert (none.shape, none.dtype) == ((0,), np.float32)


def test_without_scikit_learn_the_error_names_the_way_out(mixed, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    with pytest.raises(MissingDependencyError, match="the method 'mahalanobis'"):
        fit_forest(mixed.usual(np.random.default_rng(4), 300))
