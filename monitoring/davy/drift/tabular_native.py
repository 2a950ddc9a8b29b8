"""Kolmogorov-Smirnov for numbers and chi-square for categories, with scipy alone.

Belongs here: the native engine's measures. Not here: missing values, verdicts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np
from scipy import stats

from davy.drift.distance import (
    FeatureWindow,
    Values,
    column,
    is_category,
    kolmogorov_smirnov,
    present,
    total_variation,
    value_detector,
)
from davy.drift.result import Distance


@dataclass(frozen=True, slots=True)
class NativeTabular:
    """Univariate distances of each feature, missing values left out.

    Examples
    --------
    >>> reference = {"price": np.array([1.0, 2.0, 3.0, 4.0])}
    >>> window = {"price": np.array([3.0, 4.0, np.nan])}
    >>> NativeTabular().fit(reference).distances(window)[0].effect
    0.5
    """

    reference: FeatureWindow = field(default_factory=dict)

    def fit(self, reference: FeatureWindow) -> Self:
        """Return a measure that compares with `reference`, which is sorted once."""
        kept = {
            name: values if is_category(values) else np.sort(present(values))
            for name, values in reference.items()
        }
        return type(self)(kept)

    def distances(self, window: FeatureWindow) -> tuple[Distance, ...]:
        """Return "ks" for float features and "chi2" for integer ones; see `Measure`."""
        return tuple(self._distance(name, window) for name in self.reference)

    def _distance(self, name: str, window: FeatureWindow) -> Distance:
        reference = self.reference[name]
        sample = present(column(window, name, like=reference))
        kind = value_detector(reference)
        if not sample.size or not reference.size:
            return Distance(name, kind, float("nan"), float("nan"), 0)
        if kind == "ks":
            effect = kolmogorov_smirnov(sample, reference)
            return Distance(name, kind, effect, effect, sample.size)
        effect = total_variation(sample, reference)
        return Distance(name, kind, effect, _chi_square(sample, reference), sample.size)


def _chi_square(sample: Values, reference: Values) -> float:
    categories = np.union1d(sample, reference)
    table = [
        np.bincount(np.searchsorted(categories, side), minlength=categories.size)
        for side in (reference, sample)
    ]
    return float(stats.chi2_contingency(np.vstack(table)).statistic)
