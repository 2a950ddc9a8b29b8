"""How good predictions over a table are, with intervals that draw whole entities.

Belongs here: weighted measures of classification and regression, their bootstrap.
Not here: ranking measures (`davy.training.metrics`), files.

Every measure takes a weight a row, so that a resample is a vector of weights and no copy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from davy.packaging.contract import Interval, Metric
from davy.training.bootstrap import draw_weights

Floats = npt.NDArray[np.float64]
Measure = Callable[[Floats, Floats, Floats], float]
DRAWS = 200
BINS = 10


def roc_auc(label: Floats, score: Floats, weight: Floats) -> float:
    """Return the chance that a row of class 1 scores above one of class 0, ties half.

    Examples
    --------
    >>> ones = np.ones(4)
    >>> roc_auc(np.array([0.0, 0, 1, 1]), np.array([0.1, 0.4, 0.4, 0.8]), ones)
    0.875
    """
    positive, negative = _by_score(label, score, weight)
    below = np.cumsum(negative) - negative
    return _ratio(float((positive * (below + negative / 2)).sum()), positive.sum() * negative.sum())


def pr_auc(label: Floats, score: Floats, weight: Floats) -> float:
    """Return average precision: precision at each score, weighted by the recall that it adds.

    Examples
    --------
    >>> round(pr_auc(np.array([0.0, 1, 0, 1]), np.array([0.1, 0.2, 0.3, 0.4]), np.ones(4)), 4)
    0.8333
    """
    positive, negative = (part[::-1] for part in _by_score(label, score, weight))
    found, total = np.cumsum(positive), np.cumsum(positive + negative)
    precision = np.divide(found, total, out=np.zeros_like(found), where=total > 0)
    return _ratio(float((precision * positive).sum()), positive.sum())


def brier(label: Floats, score: Floats, weight: Floats) -> float:
    """Return the mean squared distance of the probability from what happened; lower is better."""
    return _ratio(float((weight * (score - label) ** 2).sum()), weight.sum())


def calibration_error(label: Floats, score: Floats, weight: Floats) -> float:
    """Return the mean distance of probability and rate over ten bins of equal width."""
    place = np.minimum((score * BINS).astype(int), BINS - 1)
    gaps = np.bincount(place, weights=weight * (score - label), minlength=BINS)
    return _ratio(float(np.abs(gaps).sum()), weight.sum())


def accuracy(label: Floats, predicted: Floats, weight: Floats) -> float:
    """Return the share of rows whose class is right."""
    return _ratio(float(weight[label == predicted].sum()), weight.sum())


def precision(label: Floats, predicted: Floats, weight: Floats) -> float:
    """Return how many of the rows called 1 are; 0 where none is called so."""
    called = weight[predicted == 1].sum()
    return float(weight[(predicted == 1) & (label == 1)].sum() / called) if called else 0.0


def recall(label: Floats, predicted: Floats, weight: Floats) -> float:
    """Return how many of the rows that are 1 are called so."""
    return _ratio(float(weight[(predicted == 1) & (label == 1)].sum()), weight[label == 1].sum())


def f1(label: Floats, predicted: Floats, weight: Floats) -> float:
    """Return the harmonic mean of precision and recall."""
    right = weight[(predicted == 1) & (label == 1)].sum()
    return _ratio(float(2 * right), weight[predicted == 1].sum() + weight[label == 1].sum())


def rmse(label: Floats, predicted: Floats, weight: Floats) -> float:
    """Return the root of the mean squared error."""
    return float(np.sqrt(brier(label, predicted, weight)))


def mae(label: Floats, predicted: Floats, weight: Floats) -> float:
    """Return the mean absolute error."""
    return _ratio(float((weight * np.abs(predicted - label)).sum()), weight.sum())


def r2(label: Floats, predicted: Floats, weight: Floats) -> float:
    """Return the share of the label's variance that is explained."""
    mean = _ratio(float((weight * label).sum()), weight.sum())
    spread = float((weight * (label - mean) ** 2).sum())
    return 1.0 - _ratio(float((weight * (label - predicted) ** 2).sum()), spread)


def macro(measure: Measure) -> Measure:
    """Return a measure's mean over the classes that occur."""

    def mean(label: Floats, predicted: Floats, weight: Floats) -> float:
        values = [
            measure((label == code).astype(float), (predicted == code).astype(float), weight)
            for code in np.unique(label[weight > 0])
        ]
        return float(np.mean(values)) if values else float("nan")

    return mean


# Of probabilities of class 1, and of predicted values.
BY_SCORE: Mapping[str, Measure] = {
    "roc_auc": roc_auc,
    "pr_auc": pr_auc,
    "brier": brier,
    "calibration_error": calibration_error,
}
BY_VALUE: Mapping[str, Mapping[str, Measure]] = {
    "binary": {"accuracy": accuracy, "precision": precision, "recall": recall, "f1": f1},
    "multiclass": {
        "accuracy": accuracy,
        "macro_precision": macro(precision),
        "macro_recall": macro(recall),
        "macro_f1": macro(f1),
    },
    "regression": {"r2": r2, "rmse": rmse, "mae": mae},
}


def measure_all(
    form: str,
    label: Floats,
    score: Floats,
    predicted: Floats,
    unit: npt.NDArray[np.int64],
    segments: Mapping[str, npt.NDArray[np.bool_]],
    *,
    seed: int,
    only: str | None = None,
) -> dict[str, Metric]:
    """Return every measure of a form, or `only` one, overall and per segment, with 95 % intervals.

    Parameters
    ----------
    form : str
        ``binary``, ``multiclass`` or ``regression``.
    label, score, predicted : array of shape [rows]
        Truth; probability of class 1 (binary); predicted class or value.
    unit : array of shape [rows]
        Whose row it is: the bootstrap draws these.
    segments : mapping of str to array of bool of shape [rows]
        ``segment=value`` to its rows. Where a measure cannot be told (one class alone), the
        segment has none.
    """
    measures = [(name, measure, predicted) for name, measure in BY_VALUE[form].items()]
    if form == "binary":
        measures += [(name, measure, score) for name, measure in BY_SCORE.items()]
    asked = [item for item in measures if only in (None, item[0])]
    places = {None: np.arange(label.size)} | {
        segment: np.flatnonzero(where) for segment, where in segments.items() if where.any()
    }
    parts = [
        _Part(name, segment, measure, label[at], given[at], at)
        for name, measure, given in asked
        for segment, at in places.items()
    ]
    draws = draw_weights(unit, draws=DRAWS, rng=np.random.default_rng(seed))
    told = np.array([[part.told(weight) for part in parts] for weight in draws])
    found = {
        (part.name, part.segment): interval
        for part, drawn in zip(parts, told.T, strict=True)
        if (interval := part.interval(drawn)) is not None
    }
    return {
        name: Metric(
            name=name,
            overall=found[name, None],
            segments={
                segment: found[name, segment] for segment in segments if (name, segment) in found
            },
        )
        for name, _, _ in asked
        if (name, None) in found
    }


@dataclass(frozen=True, slots=True)
class _Part:
    """A measure on some rows: over all of them, or over those of a segment."""

    name: str
    segment: str | None
    measure: Measure
    label: Floats
    given: Floats
    at: npt.NDArray[np.int64]

    def told(self, weight: Floats) -> float:
        """Return the measure with one draw's weights of all rows."""
        return self.measure(self.label, self.given, weight[self.at])

    def interval(self, drawn: Floats) -> Interval | None:
        """Return the measure with its interval, None where it cannot be told."""
        value = self.measure(self.label, self.given, np.ones(self.label.size))
        drawn = drawn[np.isfinite(drawn)]
        # An interval out of the few draws in which the measure exists would be too short.
        if not np.isfinite(value) or drawn.size < 0.9 * DRAWS:
            return None
        lower, upper = np.quantile(drawn, [0.025, 0.975])
        return Interval(value=value, lower=float(lower), upper=float(upper), n=int(self.label.size))


def _by_score(label: Floats, score: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Return the weight of class 1 and of class 0 at each distinct score, ascending."""
    _, place = np.unique(score, return_inverse=True)
    hits: Floats = np.bincount(place, weights=weight * label).astype(np.float64)
    misses: Floats = np.bincount(place, weights=weight * (1 - label)).astype(np.float64)
    return hits, misses


def _ratio(above: float, below: float) -> float:
    return float(above / below) if below > 0 else float("nan")
