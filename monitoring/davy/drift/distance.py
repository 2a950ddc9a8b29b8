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

from davy.core.errors import InvalidInputError

Values = NDArray[Any]
"""One feature's rows, shape [rows]: floats with NaN for missing, or integers for categories."""

FeatureWindow = Mapping[str, Values]
"""The rows of one stretch of time: one entry per feature, all of the same length."""


DetectorName = Literal["ks", "chi2", "missing"]


def is_category(values: Values) -> bool:
    """Return whether a feature is categorical: its dtype is an integer or a boolean."""
    return values.dtype.kind in "iub"


def value_detector(values: Values) -> DetectorName:
    """Return the detector that looks at a feature's values: "chi2" or "ks"."""
    return "chi2" if is_category(values) else "ks"


def present(values: Values) -> Values:
    """Return the values that are not missing."""
    return values if is_category(values) else values[~np.isnan(values)]


def column(window: FeatureWindow, name: str, *, like: Values) -> Values:
    """Return one feature of a window, which must be of the reference's type.

    Raises
    ------
    InvalidInputError
        The window has no such feature, or has it as a category where the reference has numbers
        (or the other way round).
    """
    if name not in window:
        raise InvalidInputError(
            "is in the reference but not in the window",
            where=f"feature '{name}'",
            fix=f"The window holds {sorted(window)}",
        )
    values = window[name]
    if is_category(values) != is_category(like):
        raise InvalidInputError(
            f"is {values.dtype} in the window and {like.dtype} in the reference",
            where=f"feature '{name}'",
            fix="Send categories as integers and numbers as floats",
        )
    return values


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
    distance = 0.5 * np.abs(ours / sample.size - theirs / reference.size).sum()
    # Shares that are rounded can add up to a little more than 1.
    return min(1.0, float(distance))


def missing_share(values: Values) -> float:
    """Share of the rows in which a float feature is missing (NaN)."""
    return float(np.isnan(values).mean())
