"""The score above which a row is an outlier, and what that promises.

Belongs here: the conformal quantile. Not here: the scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from davy.core.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class Threshold:
    """Score above which a row is flagged, with the promise that it carries.

    Attributes
    ----------
    value : float
        Rows above it are flagged.
    false_positive_rate : float
        P(flag | a row exchangeable with the calibration rows) is at most this, for any number of
        those and any scorer. The probability is over the calibration rows too: with these very
        ones the rate varies around it, with a standard deviation of about
        sqrt(rate / rows).
    rows : int
        Calibration rows behind it.
    """

    value: float
    false_positive_rate: float
    rows: int

    def flags(self, scores: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which rows are outliers; a score that is NaN is one."""
        usual: NDArray[np.bool_] = scores <= self.value
        return ~usual


def conformal_threshold(scores: NDArray[Any], false_positive_rate: float) -> Threshold:
    """Return the split-conformal threshold of held-out scores.

    It is the score of rank ⌈(n + 1)(1 - ε)⌉ among n. A new score that is exchangeable with them
    is equally likely to take any of n + 1 ranks, so it lies above that with probability at most
    ε; ties only make that smaller.

    Parameters
    ----------
    scores : array
        Scores of shape [n] of rows that the scorer was not fitted to.
    false_positive_rate : float
        ε, between 0 and 1.

    Raises
    ------
    InvalidInputError
        ε is out of range, a score is NaN, there are fewer than 1/ε - 1 scores, or more than that
        share of them are infinite.

    References
    ----------
    Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005; Bates, Candès, Lei,
    Romano, Sesia, "Testing for outliers with conformal p-values", Annals of Statistics 51, 2023.

    Examples
    --------
    >>> conformal_threshold(np.arange(1.0, 100.0), 0.05).value
    95.0
    """
    if not 0 < false_positive_rate < 1:
        raise InvalidInputError(
            f"{false_positive_rate} is not between 0 and 1", where="false positive rate"
        )
    if np.isnan(scores).any():
        raise InvalidInputError("a calibration score is NaN", where="outlier threshold")
    # Rounded first: (n + 1)(1 - ε) of 99 and 0.05 is a hair above 95 in floating point.
    rank = math.ceil(round((scores.size + 1) * (1 - false_positive_rate), 9))
    if rank > scores.size:
        needed = math.ceil(round(1 / false_positive_rate, 9)) - 1
        raise InvalidInputError(
            f"{scores.size} calibration rows cannot promise a rate of {false_positive_rate:g}",
            where="outlier threshold",
            fix=f"Give it {needed} rows or more, or ask for a higher rate",
        )
    value = float(np.partition(scores, rank - 1)[rank - 1])
    if not math.isfinite(value):
        raise InvalidInputError(
            "more calibration rows than the rate allows have an infinite value",
            where="outlier threshold",
            fix="Mend the reference, or ask for a higher rate",
        )
    return Threshold(value, false_positive_rate, int(scores.size))
