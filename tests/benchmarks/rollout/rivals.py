"""Others' judges on the same streams, by the minute.

Belongs here: their rules and default thresholds, as their documents and sources have them; the
threshold at which each is wrong as often as the rest. Not here: drawing streams.

- *Repeated test*: the usual one-sided test of two proportions on all counts so far, at every
  minute, for errors and for slow answers; default 2.5 % each. *With the margin*: that the canary's
  rate is above 1.5 times the stable arm's, as Davy is asked.
- *Flagger*: each minute, success rate of the canary at least 99 % and 99 % quantile of its latency
  within the limit, over that minute; the tenth failed check rolls back, the tenth good one
  promotes (interval 1m, threshold 10, maxWeight 50 in steps of 5: its documents' example).
- *Argo Rollouts*: each five minutes, success rate of the canary at least 95 %; more than three
  failures abort (its documents' example: failureLimit 3, successCondition >= 0.95).
- *Kayenta*: each hour, the 60 rates by the minute of both arms in a Mann-Whitney test: a metric is
  High when the lower end of the 98 % interval of the Hodges-Lehmann shift is above a quarter of
  the shift; one High metric fails the canary, an hour without promotes it. Normal approximation,
  ties left uncorrected.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from davy.rollout.batch import FloatArray, IntArray

MINUTES = 1440
NEVER = 10**9


@dataclass(frozen=True, slots=True)
class Minutes:
    """Counts by the minute, each [M, R]."""

    n_s: IntArray
    n_c: IntArray
    e_s: IntArray
    e_c: IntArray
    s_s: IntArray
    s_c: IntArray


@dataclass(frozen=True, slots=True)
class Judged:
    """A score by the minute [M, R] that rolls back once it is above a threshold.

    ``promotes`` is the minute at which the default rule promotes [R], if nothing rolled back
    before; None where the rule has no promotion of its own.
    """

    name: str
    score: FloatArray
    default: float
    promotes: IntArray | None = None

    def rolls_back(self, threshold: float) -> IntArray:
        """Return the minute of the rollback [R]; `NEVER` for those that are not."""
        over = self.score > threshold
        return np.where(over.any(axis=0), over.argmax(axis=0), NEVER)

    def threshold_for(self, share: float) -> float:
        """Return the threshold that at most `share` of these runs ever cross."""
        highest = np.sort(self.score.max(axis=0))
        place = int(np.ceil((1 - share) * highest.size)) - 1
        return float(highest[place])


def judge_all(minutes: Minutes) -> tuple[Judged, ...]:
    """Return what each rival says, minute by minute."""
    return (
        repeated_test(minutes),
        repeated_test(minutes, margin=1.5),
        flagger(minutes),
        argo(minutes),
        kayenta(minutes),
    )


def repeated_test(m: Minutes, *, margin: float = 1.0) -> Judged:
    """The test of two proportions, as if each minute were the only one."""
    errors = _two_proportions(m.n_s, m.e_s, m.n_c, m.e_c, margin)
    slow = _two_proportions(m.n_s, m.s_s, m.n_c, m.s_c, margin)
    name = "repeated test" if margin == 1 else "repeated test with the margin"
    return Judged(name, _small(np.maximum(errors, slow)), float(stats.norm.isf(0.025)))


def flagger(m: Minutes) -> Judged:
    """Fixed thresholds on each minute of the canary alone."""
    n = np.maximum(m.n_c, 1)
    failed = (m.e_c / n > 0.01) | (m.s_c / n > 0.01)
    good = np.cumsum(~failed, axis=0) >= 10
    promotes = np.where(good.any(axis=0), good.argmax(axis=0), NEVER)
    return Judged("Flagger", _small(np.cumsum(failed, axis=0)), 9.5, promotes)


def argo(m: Minutes) -> Judged:
    """A fixed threshold on each five minutes of the canary alone."""
    blocks = (MINUTES // 5, 5, -1)
    n, e = m.n_c.reshape(blocks).sum(axis=1), m.e_c.reshape(blocks).sum(axis=1)
    failed = np.cumsum(e / np.maximum(n, 1) > 0.05, axis=0)
    return Judged("Argo Rollouts", _small(np.repeat(failed, 5, axis=0)), 3.5)


def kayenta(m: Minutes) -> Judged:
    """Mann-Whitney on the rates by the minute, hour by hour."""
    hours = MINUTES // 60
    z = np.zeros((MINUTES, m.n_c.shape[1]))
    default = float(stats.norm.isf(0.01))
    for hour in range(hours):
        rows = slice(60 * hour, 60 * hour + 60)
        for k_s, k_c in ((m.e_s, m.e_c), (m.s_s, m.s_c)):
            control = k_s[rows] / np.maximum(m.n_s[rows], 1)
            experiment = k_c[rows] / np.maximum(m.n_c[rows], 1)
            at = 60 * hour + 59
            z[at] = np.maximum(z[at], _mann_whitney(control, experiment))
    promotes = np.where(z[59] <= default, 59, NEVER)
    return Judged("Kayenta", _small(z), default, promotes)


def _small(score: np.ndarray) -> FloatArray:
    return np.asarray(score, dtype=np.float32)  # a hundred of them lie in memory


def _two_proportions(
    n_s: IntArray, k_s: IntArray, n_c: IntArray, k_c: IntArray, margin: float
) -> FloatArray:
    n_s, k_s, n_c, k_c = (np.cumsum(item, axis=0) for item in (n_s, k_s, n_c, k_c))
    # The stable arm's rate if the canary's were `margin` times as high.
    pooled = (k_s + k_c) / np.maximum(n_s + margin * n_c, 1)
    theirs = pooled * (1 - pooled) / np.maximum(n_s, 1)
    own = margin * pooled * (1 - np.minimum(margin * pooled, 1)) / np.maximum(n_c, 1)
    error = np.sqrt(margin**2 * theirs + own)
    difference = k_c / np.maximum(n_c, 1) - margin * k_s / np.maximum(n_s, 1)
    return np.divide(difference, error, out=np.zeros_like(difference), where=error > 0)


def _mann_whitney(control: FloatArray, experiment: FloatArray) -> FloatArray:
    """Return how many s.d. the evidence is beyond a quarter of the shift, [R]."""
    n, m = control.shape[0], experiment.shape[0]
    deviation = np.sqrt(n * m * (n + m + 1) / 12)
    differences = (experiment[:, None, :] - control[None, :, :]).reshape(n * m, -1).T
    estimate = np.abs(np.median(differences, axis=1))
    below = (differences <= 0.25 * estimate[:, None]).sum(axis=1)
    return np.where(estimate > 0, (n * m / 2 - below) / deviation, 0.0)
