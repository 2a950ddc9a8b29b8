import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, ndcg_score, roc_auc_score

from davy.detector.outcomes import Answer, Joined, join, judged, measures, ndcg


def answer(kind, *scores, row=0, hard=False):
    return Answer(kind, np.array(scores, float), row, hard)


@pytest.mark.parametrize(
    ("scores", "label", "outcome"),
    [
        ([0.2, 0.9, 0.1], [0, 1, 0], "right"),
        ([0.2, 0.9, 0.1], [1, 0, 1], "wrong"),
        ([0.2, 0.9, 0.1], [-1, 0, 0], "wrong"),
        ([0.2, 0.9, 0.1], [1], "right"),
        ([0.2, 0.9, 0.1], [0], "wrong"),
        ([0.2], [1], "right"),
    ],
)
def test_a_ranking_is_judged_by_what_it_put_first(scores, label, outcome):
    assert join(answer("ranking", *scores), label, None).outcome == outcome


@pytest.mark.parametrize(
    ("score", "label", "limit", "outcome"),
    [
        (0.5, 1, None, "right"),
        (0.49, 1, None, "wrong"),
        (0.49, 0, None, "right"),
        (0.35, 1, 0.3, "right"),
        (0.35, 0, 0.3, "wrong"),
    ],
)
def test_a_chance_is_judged_by_the_side_on_which_it_lies(score, label, limit, outcome):
    assert join(answer("classification", score), [label], limit).outcome == outcome


def test_a_class_is_judged_by_being_the_same():
    assert join(answer("classification", 3, hard=True), [3], None).outcome == "right"
    assert join(answer("classification", 3, hard=True), [2], None).outcome == "wrong"


def test_a_number_is_judged_by_how_far_it_is_off_where_there_is_a_limit():
    assert join(answer("regression", 10), [12], 2.0).outcome == "right"
    assert join(answer("regression", 10), [12.5], 2.0).outcome == "wrong"
    assert join(answer("regression", 10), [12.5], None) == Joined(None, 10, 12.5)
    assert [judged("regression", None), judged("regression", 1.0)] == [False, True]
    assert judged("classification", None)


def test_of_a_request_of_many_rows_the_watched_one_counts():
    many = answer("classification", 0.1, 0.9, row=1)
    assert join(many, [1, 1], None) == Joined("right", 0.9, 1)


@pytest.mark.parametrize("kind", ["ranking", "classification", "regression"])
def test_a_label_of_other_rows_says_nothing(kind):
    assert join(answer(kind, 0.1, 0.2, 0.3), [1, 0], 1.0) == "other_rows"


@pytest.mark.parametrize("kind", ["ranking", "classification", "regression"])
def test_a_score_that_is_no_number_is_neither_right_nor_wrong(kind):
    assert join(answer(kind, math.nan), [1], 1.0) == "no_score"


def test_one_value_for_many_rows_says_nothing_but_of_a_ranking():
    assert join(answer("classification", 0.1, 0.2), [1], None) == "other_rows"


def test_measures_are_those_of_scikit_learn():
    rng = np.random.default_rng(1)
    score = np.round(rng.random(300), 2)  # with ties
    label = (rng.random(300) < score).astype(float)
    joined = [
        join(answer("classification", s), [t], None) for s, t in zip(score, label, strict=True)
    ]
    found = measures("classification", joined, hard=False)
    assert found["roc_auc"] == pytest.approx(roc_auc_score(label, score))
    assert found["brier"] == pytest.approx(brier_score_loss(label, score))
    assert found["accuracy"] == pytest.approx(((score >= 0.5) == label).mean())


def test_measures_of_a_regression_and_of_classes():
    joined = [join(answer("regression", s), [t], 1.0) for s, t in ((1, 2), (5, 2))]
    assert measures("regression", joined, hard=False) == {
        "mae": 2.0,
        "rmse": pytest.approx(math.sqrt(5)),
    }
    joined = [join(answer("classification", s, hard=True), [2], None) for s in (2, 1)]
    assert measures("classification", joined, hard=True) == {"accuracy": 0.5}


def test_measures_of_a_ranking_use_grades_where_there_are_some():
    graded = join(answer("ranking", 0.2, 0.9), [1, 0], None)
    plain = join(answer("ranking", 0.2, 0.9), [1], None)
    assert measures("ranking", [graded, plain], hard=False) == {
        "hit@1": 0.5,
        "ndcg@10": pytest.approx(1 / math.log2(3)),
    }
    assert measures("ranking", [plain], hard=False) == {"hit@1": 1.0}


def test_what_labels_do_not_determine_is_left_out():
    one = [join(answer("classification", 0.7), [1], None)]
    assert set(measures("classification", one, hard=False)) == {"accuracy", "brier"}
    assert measures("ranking", [], hard=False) == {}


@given(st.lists(st.integers(0, 5), min_size=2, max_size=30), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_ndcg_is_that_of_scikit_learn(relevance, seed):
    scores = np.random.default_rng(seed).permutation(len(relevance)).astype(float)
    truth = np.array(relevance, float)
    found = ndcg(scores, truth)
    if truth.max() == 0:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(ndcg_score([truth], [scores], k=10))
