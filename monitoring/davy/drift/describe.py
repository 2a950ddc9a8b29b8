"""What a person sees first: a few numbers and values of a feature, then and now.

Belongs here: turning two samples into comparisons. Not here: whether the difference matters.
"""

from __future__ import annotations

import numpy as np

from davy.drift.distance import DetectorName, Values, is_category, missing_share, present
from davy.drift.result import Comparison

EXAMPLES = 5
CATEGORIES = 3


def compare(detector: DetectorName, reference: Values, window: Values) -> tuple[Comparison, ...]:
    """Return the numbers that show what a detector saw.

    Missing shares for "missing", three quantiles for "ks", the categories whose share changed
    most for "chi2".

    Examples
    --------
    >>> compare("missing", np.array([1.0, 2.0]), np.array([np.nan, 2.0]))
    (Comparison(what='missing share', reference=0.0, window=0.5),)
    """
    if detector == "missing":
        return (Comparison("missing share", missing_share(reference), missing_share(window)),)
    if detector == "ks":
        return tuple(
            Comparison(what, _quantile(reference, at), _quantile(window, at))
            for what, at in (("5 % quantile", 0.05), ("median", 0.5), ("95 % quantile", 0.95))
        )
    categories = np.union1d(reference, window)
    before = np.array([(reference == value).mean() for value in categories])
    after = np.array([(window == value).mean() for value in categories])
    most = np.argsort(-np.abs(after - before), kind="stable")[:CATEGORIES]
    return tuple(
        Comparison(f"share of {int(categories[at])}", float(before[at]), float(after[at]))
        for at in most
    )


def _quantile(values: Values, at: float) -> float | None:
    found = present(values)
    if not found.size:
        return None
    # There is nothing between a number and infinity: then the quantile is one of the values.
    if not np.isfinite(found).all():
        return float(np.quantile(found, at, method="inverted_cdf"))
    return float(np.quantile(found, at))


def examples(window: Values) -> tuple[float | int | None, ...]:
    """Return the first values of a window as they came; None for a missing one."""
    first = window[:EXAMPLES]
    if is_category(window):
        return tuple(int(value) for value in first)
    return tuple(None if np.isnan(value) else float(value) for value in first)
