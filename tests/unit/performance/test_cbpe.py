"""Expected measures against drawn labels and scikit-learn's measures of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from davy.performance.cbpe import FEWEST, estimate

DRAWS = 200
ORACLES = {
    "accuracy": lambda y, p: accuracy_score(y, p >= 0.5),
    "brier": brier_score_loss,
    "precision": lambda y, p: precision_score(y, p >= 0.5),
    "recall": lambda y, p: recall_score(y, p >= 0.5),
    "f1": lambda y, p: f1_score(y, p >= 0.5),
    "roc_auc": roc_auc_score,
}


@pytest.mark.parametrize("shape", [(2.0, 2.0), (1.0, 3.0), (8.0, 2.0)])
def test_the_estimate_is_the_mean_over_drawn_labels(shape: tuple[float, float]) -> None:
    rows = 300
    rng = np.random.default_rng(rows)
    scores = rng.beta(*shape, rows).round(2)
    labels = rng.uniform(size=(DRAWS, rows)) < scores
    found = estimate(scores)
    assert set(found) == set(ORACLES)
    for name, oracle in ORACLES.items():
        drawn = np.array([oracle(y, scores) for y in labels])
        error = drawn.std() / DRAWS**0.5
        # The ratios' own bias is of the order of one over the rows.
        assert found[name].value == pytest.approx(drawn.mean(), abs=5 * error + 2 / rows), name
        assert found[name].deviation == pytest.approx(drawn.std(), rel=0.25), name


def test_a_shift_of_inputs_is_estimated_without_labels() -> None:
    rng = np.random.default_rng(3)
    sure, unsure = rng.beta(0.3, 0.3, 5000), rng.beta(5, 5, 5000)
    before, after = estimate(sure), estimate(unsure)
    labels = rng.uniform(size=5000) < unsure
    assert before["roc_auc"].value - after["roc_auc"].value > 0.2
    assert after["roc_auc"].value == pytest.approx(roc_auc_score(labels, unsure), abs=0.03)


@given(st.lists(st.floats(0, 1), min_size=FEWEST, max_size=80))
def test_every_measure_is_a_share(scores: list[float]) -> None:
    for name, found in estimate(scores).items():
        assert -1e-9 <= found.value <= 1 + 1e-9, name
        assert found.deviation >= 0, name


def test_what_the_scores_do_not_determine_is_left_out() -> None:
    assert estimate([0.9] * (FEWEST - 1)) == {}
    assert estimate([0.9] * FEWEST + [np.nan] * 9).keys() == estimate([0.9] * FEWEST).keys()
    assert estimate([1.2] * FEWEST) == {}
    assert estimate([-3.0, *[0.5] * FEWEST]) == {}
    assert "precision" not in estimate([0.1] * FEWEST)
    for none in (0.0, 5e-324, 1e-200):
        assert not {"recall", "f1", "roc_auc"} & estimate([none] * FEWEST).keys()
    assert "roc_auc" not in estimate([1.0] * FEWEST)
    assert estimate([]) == {}
