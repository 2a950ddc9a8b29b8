from fractions import Fraction

import numpy as np
import pytest

from davy.core.errors import InvalidInputError
from davy.outlier.mahalanobis import fit_mahalanobis
from davy.outlier.threshold import Threshold, conformal_threshold


@pytest.mark.parametrize("rows", [99, 100, 101, 199, 499, 999, 1000])
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1])
def test_the_rank_is_the_smallest_that_keeps_the_promise_exactly(rows, rate):
    exact = Fraction(str(rate))
    value = conformal_threshold(np.random.default_rng(0).permutation(rows) + 1.0, rate).value
    # Scores are their own ranks: a new one is above the threshold with this chance.
    chance = Fraction(rows + 1 - int(value), rows + 1)
    assert chance <= exact < chance + Fraction(1, rows + 1)


@pytest.mark.parametrize("rows", [19, 60, 400])
def test_the_promise_holds_over_draws_of_everything(mixed, rows):
    """Fit, calibration and new rows are drawn anew each time, as the promise says."""
    rng, rate, draws, new = np.random.default_rng(rows), 0.05, 400, 50
    shares = []
    for _ in range(draws):
        scorer = fit_mahalanobis(mixed.usual(rng, 60))
        threshold = conformal_threshold(scorer.score(mixed.usual(rng, rows)), rate)
        shares.append(threshold.flags(scorer.score(mixed.usual(rng, new))).mean())
    error = np.std(shares) / np.sqrt(draws)
    assert np.mean(shares) <= rate + 3 * error
    # And it is not kept by flagging nothing.
    assert np.mean(shares) >= rate - 1 / (rows + 1) - 3 * error


def test_ties_flag_fewer():
    scores = np.repeat([1.0, 2.0], 50)
    threshold = conformal_threshold(scores, 0.1)
    assert threshold == Threshold(2.0, 0.1, 100)
    assert not threshold.flags(scores).any()


def test_a_score_that_is_no_number_is_an_outlier():
    flags = Threshold(1.0, 0.1, 10).flags(np.array([1.0, 1.5, np.nan, np.inf]))
    assert flags.tolist() == [False, True, True, True]


def test_too_few_rows_say_how_many_it_takes():
    with pytest.raises(InvalidInputError, match="99 rows or more"):
        conformal_threshold(np.arange(98.0), 0.01)
    assert conformal_threshold(np.arange(99.0), 0.01).value == 98.0


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, float("nan")])
def test_a_rate_is_between_0_and_1(rate):
    with pytest.raises(InvalidInputError, match="between 0 and 1"):
        conformal_threshold(np.arange(99.0), rate)


def test_a_score_that_is_no_number_calibrates_nothing():
    with pytest.raises(InvalidInputError, match="NaN"):
        conformal_threshold(np.array([1.0, np.nan] * 50), 0.1)


def test_infinite_scores_are_allowed_as_far_as_the_rate_goes():
    scores = np.arange(99.0)
    scores[:5] = np.inf
    assert conformal_threshold(scores, 0.06).value == 98.0
    with pytest.raises(InvalidInputError, match="infinite value"):
        conformal_threshold(scores, 0.05)
