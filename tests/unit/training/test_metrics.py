from __future__ import annotations

import numpy as np
import pytest

from davy.core.errors import InvalidInputError
from davy.training.metrics import ndcg


def test_a_value_worked_out_by_hand():
    # Places 1 and 3 of the ranking were bought, out of a basket of three.
    scores = [0.1, 0.9, 0.5, 0.3]
    labels = [0, 1, 0, 1]
    ideal = 1 + 1 / np.log2(3) + 1 / 2
    assert ndcg(scores, labels, [0], [3]) == pytest.approx((1 + 1 / 2) / ideal)


def test_two_requests_of_different_length():
    result = ndcg([0.9, 0.1, 0.2, 0.3, 0.1], [1, 0, 0, 1, 0], [0, 2], [1, 1])
    assert result.tolist() == pytest.approx([1.0, 1.0])


def test_only_the_first_k_places_count():
    scores = np.arange(12)[::-1]
    labels = np.zeros(12)
    labels[10] = 1
    assert ndcg(scores, labels, [0], [1], k=10).tolist() == [0.0]
    assert ndcg(scores, labels, [0], [1], k=11)[0] > 0


def test_the_ideal_holds_what_was_not_among_the_candidates():
    few = ndcg([1, 0], [1, 0], [0], [1])
    many = ndcg([1, 0], [1, 0], [0], [10])
    assert few[0] == 1.0
    assert many[0] == pytest.approx(1 / np.sum(1 / np.log2(np.arange(2, 12))))
    assert ndcg([1, 0], [1, 0], [0], [50])[0] == many[0]


def test_equal_scores_share_their_places_whatever_the_order_of_rows():
    rng = np.random.default_rng(0)
    labels = np.array([1, 0, 0, 1, 0])
    scores = np.array([0.5, 0.5, 0.5, 0.2, 0.9])
    expected = ndcg(scores, labels, [0], [2], k=3)
    for _ in range(5):
        order = rng.permutation(5)
        assert ndcg(scores[order], labels[order], [0], [2], k=3) == pytest.approx(expected)
    shuffled = [ndcg(scores + rng.random(5) * 1e-6, labels, [0], [2], k=3)[0] for _ in range(2000)]
    assert expected[0] == pytest.approx(np.mean(shuffled), abs=0.02)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0], [1, 0], [0], [1]), "equal length"),
        (([1.0, np.nan], [1, 0], [0], [1]), "1 of 2 scores are not finite"),
        (([1.0, 0.5], [1, 0], [1], [1]), "ascend from 0"),
        (([1.0, 0.5], [1, 0], [0, 0], [1, 1]), "ascend from 0"),
        (([1.0, 0.5], [1, 0], [0], [0]), "at least one relevant"),
        (([1.0, 0.5], [1, 1], [0], [1]), "no fewer than its bought"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        ndcg(*arguments)
