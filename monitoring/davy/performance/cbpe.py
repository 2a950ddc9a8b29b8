"""Confidence-based performance estimation: what calibrated probabilities say of themselves.

Belongs here: the expected measures of a binary classifier over its scores. Not here: which scores.

Where a score is the probability that its label is positive, each row is a positive with that
chance, and a measure over rows has an expectation that needs no label. It is right as long as the
scores are calibrated on the rows at hand: inputs may shift, what follows from an input may not. A
change of that (concept drift) is not seen here; late labels show it.

Source: Guillory et al. 2021, "Predicting with confidence on unseen distributions"; the estimates of
the confusion matrix are those of Białek et al. 2024, "Estimating model performance under covariate
shift without labels".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
# Below so many rows the estimate is the chance of the draw.
FEWEST = 30
# Expected positives or negatives below which what is a share of them says nothing.
HARDLY_ANY = 1e-6
MEASURES = ("accuracy", "brier", "precision", "recall", "f1", "roc_auc")


@dataclass(frozen=True, slots=True)
class Estimate:
    """An expected measure and the standard deviation that the draw of labels leaves it with."""

    value: float
    deviation: float


def estimate(scores: npt.ArrayLike, threshold: float = 0.5) -> Mapping[str, Estimate]:
    """Return the expected measures of a binary classifier, by the names that evaluations use.

    Parameters
    ----------
    scores : array_like, shape (rows,)
        Calibrated probabilities of the positive class; what is no number is left out.
    threshold : float
        From here on a row is called positive.

    Returns
    -------
    mapping
        ``accuracy``, ``brier``, ``precision``, ``recall``, ``f1``, ``roc_auc``; one that the scores
        do not determine is left out, and all are when fewer than `FEWEST` are probabilities.

    Examples
    --------
    >>> found = estimate([0.9] * 50 + [0.2] * 50)
    >>> round(found["accuracy"].value, 3)
    0.85
    """
    given = np.asarray(scores, dtype=np.float64).ravel()
    p = given[np.isfinite(given)]
    if p.size < FEWEST or p.min() < 0 or p.max() > 1:
        return {}
    called = p >= threshold
    right = np.where(called, p, 1 - p)
    variance = p * (1 - p)
    n = p.size
    found = {
        "accuracy": Estimate(float(right.mean()), math.sqrt(variance.sum()) / n),
        # (p - y)² is (1-p)² with chance p, p² otherwise.
        "brier": Estimate(
            float(variance.mean()), math.sqrt((variance * (1 - 2 * p) ** 2).sum()) / n
        ),
    }
    positives, hits, calls = float(p.sum()), float(p[called].sum()), int(called.sum())
    if calls:
        spread = math.sqrt(variance[called].sum())
        found["precision"] = Estimate(hits / calls, spread / calls)
    if positives > HARDLY_ANY:
        recall = hits / positives
        found["recall"] = Estimate(recall, _ratio(variance, called, recall, positives))
        f1 = 2 * hits / (positives + calls)
        # 2·TP / (P + calls): of both, P and TP hang on the labels.
        share = f1 / 2
        spread = 2 * _ratio(variance, called, share, positives + calls)
        found["f1"] = Estimate(f1, spread)
    area = _area(p)
    if area is not None:
        found["roc_auc"] = area
    return found


def _ratio(variance: Floats, counted: npt.NDArray[np.bool_], share: float, whole: float) -> float:
    """Return the deviation of a ratio of counted positives to all, by the delta method."""
    weight = np.where(counted, 1 - share, -share)
    return math.sqrt(float((variance * weight**2).sum())) / whole


def _area(p: Floats) -> Estimate | None:
    """Return the expected area under the ROC curve: of pairs, those in the right order.

    The ratio of the expected numbers of pairs, whose difference from the expected ratio is of the
    order of one over the rows. Ties count half.
    """
    _, places = np.unique(p, return_inverse=True)
    positive = np.bincount(places, weights=p)
    negative = np.bincount(places, weights=1 - p)
    below = np.cumsum(negative) - negative / 2
    pairs = positive.sum() * negative.sum()
    if min(positive.sum(), negative.sum()) <= HARDLY_ANY:
        return None
    area = float((positive * below).sum() / pairs)
    # Hoeffding's projection: what one row adds to the area as a positive and as a negative.
    above = positive.sum() - (np.cumsum(positive) - positive / 2)
    as_positive = below[places] / negative.sum() - area
    as_negative = above[places] / positive.sum() - area
    slope = as_positive / positive.sum() - as_negative / negative.sum()
    return Estimate(area, math.sqrt(float((p * (1 - p) * slope**2).sum())))
