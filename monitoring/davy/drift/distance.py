"""How far one sample lies from another: three distances between 0 and 1.

Belongs here: the distances. Not here: what they are compared with.

Each is an effect size and not a test statistic, so that it means the same at any sample size and
a floor can be put under it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]
"""One feature's rows, shape [rows]: floats with NaN for missing, or integers for categories."""

FeatureWindow = Mapping[str, Values]
"""The rows of one stretch of time: one entry per feature, all of the same length."""

DetectorName = Literal["ks", "chi2", "missing"]


def is_category(values: Values) -> bool:
    """Return whether a feature is categorical: its dtype is an integer or a boolean."""
    return values.dtype.kind in "iub"


def present(values: Values) -> Values:
    """Return the values that are not missing."""
    return values if is_category(values) else values[~np.isnan(values)]


def kolmogorov_smirnov(sample: Values, reference_sorted: Values) -> float:
    """Largest gap between two empirical distribution functions.

    Parameters
    ----------
    sample : array, shape [m]
        Values without missing ones, in any order; m >= 1.
    reference_sorted : array, shape [n]
        Values without missing ones, ascending; n >= 1.

    Returns
    -------
    float
        Between 0 and 1.

    Notes
    -----
    The gap is largest just before or at a point of `sample`, so only those are looked at:
    O(m log n) once the reference is sorted.

    Examples
    --------
    >>> kolmogorov_smirnov(np.array([3.0, 4.0]), np.array([1.0, 2.0, 3.0, 4.0]))
    0.5
    """
    points = np.sort(sample)
    worst = 0.0
    for side in ("left", "right"):
        ours = np.searchsorted(points, points, side=side) / points.size
        theirs = np.searchsorted(reference_sorted, points, side=side) / reference_sorted.size
        worst = max(worst, float(np.max(np.abs(ours - theirs))))
    return worst


def total_variation(sample: Values, reference: Values) -> float:
    """Half the summed difference of category shares: the mass that would have to move.

    Parameters
    ----------
    sample, reference : integer arrays, shapes [m] and [n]
        Categories; one that only one side has counts as a share of 0 on the other.

    Examples
    --------
    >>> total_variation(np.array([1, 1, 2, 3]), np.array([1, 1, 2, 2]))
    0.25
    """
    categories = np.union1d(sample, reference)
    ours = np.bincount(np.searchsorted(categories, sample), minlength=categories.size)
    theirs = np.bincount(np.searchsorted(categories, reference), minlength=categories.size)
    return float(0.5 * np.abs(ours / sample.size - theirs / reference.size).sum())


def missing_share(values: Values) -> float:
    """Share of the rows in which a float feature is missing (NaN)."""
    return float(np.isnan(values).mean())
