"""The verdict for many streams at once, at limits that are known before: for simulation.

Belongs here: the same evidence as `davy.rollout.sequential`, where only "is the ratio above r" and
"is it at most r" are asked, so no grid is needed; numpy over streams.
Not here: deciding a rollout, which needs bounds (`davy.rollout.verdict`).

A test compares both look by look.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from davy.rollout.pods import RESERVED
from davy.rollout.search import FloatArray
from davy.rollout.sequential import RATE_MIXTURE, RATIO_MIXTURE, Mixture
from davy.rollout.verdict import Criterion

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


class RatioEvidenceBatch:
    """Evidence of many streams against one value of the ratio, from one side.

    Parameters
    ----------
    theta : float
        The value under test.
    side : float
        1: evidence that the ratio is above it; -1: that it is below.
    streams : int
        How many, R.
    """

    def __init__(
        self, theta: float, side: float, streams: int, mixture: Mixture = RATIO_MIXTURE
    ) -> None:
        self._logs = math.log(theta) + side * mixture.from_tested
        self._thetas = np.exp(self._logs)
        self._log_weights = mixture.log_weights
        self._log_likelihood = np.zeros((streams, self._thetas.size))
        self.log_evidence: FloatArray = np.zeros(streams)

    def add(self, n_s: IntArray, k_s: IntArray, n_c: IntArray, k_c: IntArray) -> None:
        """Add one interval [R]; where an arm is silent or nothing happened it says nothing."""
        total = k_s + k_c
        rows = np.flatnonzero((total > 0) & (n_s > 0) & (n_c > 0))
        if not rows.size:
            return
        odds = n_c[rows] / n_s[rows]
        rise = np.multiply.outer(odds, self._thetas)
        np.log1p(rise, out=rise)
        rise *= -total[rows, None]
        rise += np.multiply.outer(k_c[rows], self._logs)
        rise += self._log_likelihood[rows]
        self._log_likelihood[rows] = rise
        self.log_evidence[rows] = _mixed(rise, self._log_weights)

    def keep(self, rows: BoolArray | IntArray) -> None:
        """Go on with some of the streams."""
        self._log_likelihood = self._log_likelihood[rows]
        self.log_evidence = self.log_evidence[rows]


class RateEvidenceBatch:
    """Evidence of many streams against one value of the canary's own rate, from one side."""

    def __init__(
        self, rate: float, side: float, streams: int, mixture: Mixture = RATE_MIXTURE
    ) -> None:
        self._logits = math.log(rate) - math.log1p(-rate) + side * mixture.from_tested
        self._soft = np.logaddexp(0.0, self._logits)
        self._log_weights = mixture.log_weights
        self._n: IntArray = np.zeros(streams, dtype=np.int64)
        self._k: IntArray = np.zeros(streams, dtype=np.int64)

    def add(self, n: IntArray, k: IntArray) -> None:
        """Add one interval [R]."""
        self._n = self._n + n
        self._k = self._k + k

    @property
    def log_evidence(self) -> FloatArray:
        """Return log E [R]."""
        values = np.multiply.outer(self._k, self._logits) - np.multiply.outer(self._n, self._soft)
        return _mixed(values, self._log_weights)

    def keep(self, rows: BoolArray | IntArray) -> None:
        """Go on with some of the streams."""
        self._n, self._k = self._n[rows], self._k[rows]


class FailBatch:
    """Whether an indicator fails, for many streams."""

    def __init__(self, criterion: Criterion, streams: int) -> None:
        self._threshold = -math.log(criterion.alpha_fail)
        self._ratio = RatioEvidenceBatch(criterion.ratio, 1.0, streams)
        allowance = criterion.allowance
        self._rate = RateEvidenceBatch(allowance, 1.0, streams) if allowance else None

    def add(self, n_s: IntArray, k_s: IntArray, n_c: IntArray, k_c: IntArray) -> BoolArray:
        """Add one interval [R] and return which fail now [R]."""
        self._ratio.add(n_s, k_s, n_c, k_c)
        failing = self._ratio.log_evidence >= self._threshold
        if self._rate is not None:
            self._rate.add(n_c, k_c)
            if failing.any():
                failing &= self._rate.log_evidence >= self._threshold
        return failing

    def keep(self, rows: BoolArray | IntArray) -> None:
        """Go on with some of the streams."""
        self._ratio.keep(rows)
        if self._rate is not None:
            self._rate.keep(rows)


class PassBatch:
    """Whether an indicator passes, for many streams."""

    def __init__(self, criterion: Criterion, streams: int) -> None:
        self._threshold = -math.log(criterion.alpha_pass * (1 - RESERVED) / 2)
        self._ratio = RatioEvidenceBatch(criterion.ratio, -1.0, streams)
        allowance = criterion.allowance
        self._rate = RateEvidenceBatch(allowance, -1.0, streams) if allowance else None

    def add(self, n_s: IntArray, k_s: IntArray, n_c: IntArray, k_c: IntArray) -> BoolArray:
        """Add one interval [R] and return which pass now [R]."""
        self._ratio.add(n_s, k_s, n_c, k_c)
        passing = self._ratio.log_evidence >= self._threshold
        if self._rate is not None:
            self._rate.add(n_c, k_c)
            passing |= self._rate.log_evidence >= self._threshold
        return passing

    def keep(self, rows: BoolArray | IntArray) -> None:
        """Go on with some of the streams."""
        self._ratio.keep(rows)
        if self._rate is not None:
            self._rate.keep(rows)


def _mixed(values: FloatArray, log_weights: FloatArray) -> FloatArray:
    """Return log E [R] from log-likelihoods [R, 1 + K], the tested point's first."""
    terms = values[:, 1:] - values[:, :1]
    terms += log_weights
    top = np.maximum.reduce(terms, axis=1)
    terms -= top[:, None]
    np.exp(terms, out=terms)
    mixed: FloatArray = top + np.log(np.add.reduce(terms, axis=1))
    return mixed
