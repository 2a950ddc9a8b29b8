"""Confidence sequences for a rate ratio and for a rate: valid at every look at once.

Belongs here: evidence (e-processes) and the bounds that follow from it; numpy only.
Not here: margins, verdicts, where the counts come from.

**Ratio.** In interval *j* the stable arm has ``k_S`` events in ``n_S`` requests, the canary
``k_C`` in ``n_C``. Given the ``k_S + k_C`` events, each is the canary's with chance
``rho_j(theta) = n_C theta / (n_C theta + n_S)``, theta the ratio of the two rates; a shock that
hits both arms cancels, and weights may change from interval to interval. With
``x = log theta``, ``l(x) = sum_j k_C log rho_j + k_S log(1 - rho_j)``. To show that theta is above
``theta0``, mix over alternatives above it:

    ``E(theta0) = sum_i w_i exp(l(x0 + d_i) - l(x0))``,  ``d_i > 0``, ``sum w_i = 1``

and in the same way with ``-d_i`` to show that it is below. Three facts carry everything:

1. *Validity.* For one alternative put ``a = rho_1/rho_0 > 1`` and ``b = (1-rho_1)/(1-rho_0) < 1``.
   If events are independent, whatever their chances, the expected factor of an interval is at most
   ``exp(n_C p_C (a-1) + n_S p_S (b-1))``, because ``1 + u <= exp(u)``; the exponent is 0 when
   ``p_C = theta0 p_S`` and below 0 when ``p_C`` is smaller. So E is a supermartingale that starts
   at 1, for frequent events as for rare ones, and whenever ``p_C <= theta0 p_S`` holds in each
   interval, though both may wander. By Ville's inequality ``P(E ever reaches 1/alpha) <= alpha``.
2. *Order.* ``l`` is concave in x and the ``d_i`` do not depend on ``theta0``, so E falls as
   ``theta0`` rises: what is rejected is a half-line, and the bound is found by splitting.
3. *Grid.* The mixture is over atoms, so E is exact as it stands: coarser atoms cost power, never
   validity. ``l`` is kept with its slope on a grid and read between grid points by cubic Hermite
   interpolation, whose error ``step**4 / 384 * max|l''''|``, with ``|l''''| <= events/8``, is
   taken off the evidence.

**Rate.** The same with ``l(x) = k x - n log(1 + exp(x))``, ``x = logit p``: exact, no grid.

Sources: Robbins 1970; Howard, Ramdas, McAuliffe, Sekhon 2021; Lindon, Malek arXiv 2011.03567;
Lindon, Sanden, Shirikian arXiv 2205.14762; Turner, Ly, Grünwald arXiv 2106.02693.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from davy.core.errors import InvalidInputError
from davy.rollout.search import FloatArray, Points, last_rejected

# Bounds are looked for between theta = exp(-REACH) and exp(REACH); the grid is wider by the
# farthest atom, so that no alternative falls off it.
REACH = 7.0
FARTHEST = 7.0
GRID_STEP = 0.04
GRID: FloatArray = np.linspace(
    -(REACH + FARTHEST), REACH + FARTHEST, 1 + round(2 * (REACH + FARTHEST) / GRID_STEP)
)
GRID.setflags(write=False)
_EXP_GRID: FloatArray = np.exp(GRID)
_EXP_GRID.setflags(write=False)
RATE_REACH = 25.0


@dataclass(frozen=True, eq=False)
class Mixture:
    """Prior on how far beyond the tested value the truth lies, in log (or logit) units.

    ``distances`` [K] ascending and positive, ``log_weights`` [K] of weights that sum to 1.
    """

    distances: FloatArray
    log_weights: FloatArray

    @cached_property
    def from_tested(self) -> FloatArray:
        """Return 0 and the distances [1 + K]: the tested point and what lies beyond it."""
        return np.concatenate(([0.0], self.distances))


def half_normal_mixture(
    scales: tuple[tuple[float, float], ...], *, nearest: float = 0.002, atoms: int = 48
) -> Mixture:
    """Return atoms for a mixture of half-normal densities.

    Parameters
    ----------
    scales : tuple of (share, s.d.)
        Shares need not sum to 1.
    nearest : float
        Distance of the first atom. Atoms lie a constant factor apart up to `FARTHEST`: being off
        by a tenth of the distance costs a hundredth of the evidence.
    atoms : int
        How many.
    """
    distances = np.geomspace(nearest, FARTHEST, atoms)
    density = np.zeros_like(distances)
    for share, scale in scales:
        density += share / scale * np.exp(-0.5 * (distances / scale) ** 2)
    weights = density * distances  # the width of an atom's cell grows with its distance
    log_weights = np.log(weights / weights.sum())
    distances.setflags(write=False)
    log_weights.setflags(write=False)
    return Mixture(distances, log_weights)


# One scale, 1.5, kept against six others (one narrower, five mixtures of scales between 0.3 and 3)
# on eleven cases, 200 streams each, medians of canary requests. No prior wins everywhere: the
# narrow one, 0.7, needs 14 % less for 5 % -> 10 % (1,800 against 2,100) and 10 % less for A/A at
# 0.2 %; 1.5 needs 17-20 % less for 0.2 % -> 2 % (335 against 420), and gross errors are where speed
# saves shoppers. On the same streams a two-sided prior of 1.5 centred on ratio 1 needs from nothing
# to 19 % more (380 for the 335, 2,400 for the 2,100): anchoring helps, but not by multiples.
RATIO_MIXTURE = half_normal_mixture(((1.0, 1.5),))
# The same for the rate: 506 requests without an event to be below 1 % at alpha 0.025, where the
# two-sided beta-binomial mixture, Beta(1/2, 1/2), needs 754. The floor for any test is 368.
RATE_MIXTURE = half_normal_mixture(((1.0, 1.5),))


@dataclass(frozen=True, slots=True)
class Bounds:
    """One-sided bounds, each wrong with at most its own alpha over all looks together."""

    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class Weighed:
    """The bounds of a quantity, and the log evidence that it is above, and below, one limit.

    The evidence at the limit is exact: it does not hang on where a search for a bound ended.
    """

    bounds: Bounds
    above: float
    below: float


@dataclass(frozen=True, slots=True, eq=False)
class RatioEvidence:
    """What has been seen of the ratio theta = (canary's rate) / (stable's rate).

    Holds the log-likelihood and its slope on `GRID`, both [G]; a new interval gives a new object.

    Examples
    --------
    >>> evidence = RatioEvidence.empty()
    >>> for _ in range(20):
    ...     evidence = evidence.with_interval(n_stable=950, k_stable=2, n_canary=50, k_canary=5)
    >>> bounds = evidence.bounds(alpha_lower=0.025, alpha_upper=0.025)
    >>> 20 < bounds.lower < 950 / 50 * 5 / 2 < bounds.upper < 100
    True
    """

    log_likelihood: FloatArray
    slope: FloatArray
    events: int = 0
    mixture: Mixture = field(default=RATIO_MIXTURE)

    @classmethod
    def empty(cls, mixture: Mixture = RATIO_MIXTURE) -> RatioEvidence:
        """Return the evidence before the first interval."""
        return cls(np.zeros_like(GRID), np.zeros_like(GRID), 0, mixture)

    def with_interval(
        self, *, n_stable: int, k_stable: int, n_canary: int, k_canary: int
    ) -> RatioEvidence:
        """Return the evidence with one more interval.

        Parameters
        ----------
        n_stable, n_canary : int
            Requests of each arm.
        k_stable, k_canary : int
            Events among them.

        Raises
        ------
        InvalidInputError
            A count is negative, or an arm has more events than requests.
        """
        check_counts(n_stable, k_stable, arm="stable")
        check_counts(n_canary, k_canary, arm="canary")
        total = k_stable + k_canary
        # With one arm silent or no events, every theta explains the interval equally well.
        if total == 0 or n_stable == 0 or n_canary == 0:
            return self
        odds = math.log(n_canary) - math.log(n_stable)
        weighed = _EXP_GRID * math.exp(odds)
        rise = k_canary * GRID - total * np.log1p(weighed)
        # Only differences count; keeping the middle at 0 keeps their digits at 10^9 requests.
        rise -= rise[GRID.size // 2]
        return RatioEvidence(
            self.log_likelihood + rise,
            self.slope + (k_canary - total * (weighed / (1.0 + weighed))),
            self.events + total,
            self.mixture,
        )

    @property
    def grid_error(self) -> float:
        """Largest error of one interpolated log-likelihood."""
        return GRID_STEP**4 / 384 * self.events / 8

    def log_evidence_above(self, theta: float) -> float:
        """Return log E against "the ratio is at most `theta`"."""
        return self._one(theta, 1.0)

    def log_evidence_below(self, theta: float) -> float:
        """Return log E against "the ratio is at least `theta`"."""
        return self._one(theta, -1.0)

    def log_evidence(self, theta: float) -> float:
        """Return log E against "the ratio is exactly `theta`": half of the prior on each side."""
        sides = self.log_evidence_above(theta), self.log_evidence_below(theta)
        return float(np.logaddexp(*sides)) - math.log(2.0)

    def bounds(
        self, *, alpha_lower: float, alpha_upper: float, near: Bounds | None = None
    ) -> Bounds:
        """Return the bounds of the ratio; lower is 0 and upper infinite where nothing is known.

        A value is outside the bounds when the evidence against it reached 1/alpha. `near` says
        where to look first, such as the last look's bounds: it saves time and changes nothing
        beyond `davy.rollout.search.TOLERANCE`.
        """
        return self.weigh(None, alpha_lower=alpha_lower, alpha_upper=alpha_upper, near=near).bounds

    def weigh(
        self,
        limit: float | None,
        *,
        alpha_lower: float,
        alpha_upper: float,
        near: Bounds | None = None,
    ) -> Weighed:
        """Return the bounds, and the evidence against `limit`: cheaper than one by one."""
        if not self.events:
            return Weighed(Bounds(0.0, math.inf), 0.0, 0.0)
        cells = self._cells()
        found = last_rejected(
            lambda x, side: self._log_evidence(cells, x, side),
            (alpha_lower, alpha_upper),
            reach=REACH,
            near=(None, None) if near is None else (_log(near.lower), _log(near.upper)),
            at=None if limit is None else math.log(limit),
        )
        bounds = Bounds(
            0.0 if found.lower is None else math.exp(found.lower),
            math.inf if found.upper is None else math.exp(found.upper),
        )
        return Weighed(bounds, found.above, found.below)

    def _one(self, theta: float, side: float) -> float:
        return float(
            self._log_evidence(self._cells(), np.array([math.log(theta)]), np.array([side]))[0][0]
        )

    def _cells(self) -> FloatArray:
        """Return the coefficients [4, G - 1] of the cubic within each cell of the grid."""
        cells = np.empty((4, GRID.size - 1))
        cells[0] = self.log_likelihood[:-1]
        rise = self.log_likelihood[1:] - cells[0]
        start, end = GRID_STEP * self.slope[:-1], GRID_STEP * self.slope[1:]
        cells[1] = start
        cells[2] = 3 * rise - 2 * start - end
        cells[3] = start + end - 2 * rise
        return cells

    def _log_evidence(self, cells: FloatArray, x: FloatArray, side: FloatArray) -> Points:
        """Return log E [P] at points [P], and its slope [P]."""
        place = (_alternatives(x, side, self.mixture) - GRID[0]) / GRID_STEP
        left = np.minimum(place.astype(np.intp), GRID.size - 2)
        t = place - left
        c0, c1, c2, c3 = cells.take(left, axis=1)
        values = c0 + t * (c1 + t * (c2 + t * c3))
        slopes = (c1 + t * (2 * c2 + 3 * t * c3)) / GRID_STEP
        log_e, slope = _mix(self.mixture, values, slopes)
        return log_e - 2 * self.grid_error, slope


@dataclass(frozen=True, slots=True)
class RateEvidence:
    """What has been seen of the canary's own event rate: ``events`` in ``requests``.

    Examples
    --------
    >>> evidence = RateEvidence().with_interval(n=1000, k=0)
    >>> evidence.bounds(alpha_lower=0.025, alpha_upper=0.025).upper < 0.01
    True
    """

    requests: int = 0
    events: int = 0
    mixture: Mixture = field(default=RATE_MIXTURE, compare=False)

    def with_interval(self, *, n: int, k: int) -> RateEvidence:
        """Return the evidence with `k` events in `n` requests more; errors as in the ratio's."""
        check_counts(n, k, arm="canary")
        return RateEvidence(self.requests + n, self.events + k, self.mixture)

    def log_evidence_above(self, rate: float) -> float:
        """Return log E against "the rate is at most `rate`"."""
        return float(self._log_evidence(np.array([_logit(rate)]), np.array([1.0]))[0][0])

    def log_evidence_below(self, rate: float) -> float:
        """Return log E against "the rate is at least `rate`"."""
        return float(self._log_evidence(np.array([_logit(rate)]), np.array([-1.0]))[0][0])

    def bounds(
        self, *, alpha_lower: float, alpha_upper: float, near: Bounds | None = None
    ) -> Bounds:
        """Return the bounds of the rate, 0 and 1 where nothing is known; `near` as above."""
        return self.weigh(None, alpha_lower=alpha_lower, alpha_upper=alpha_upper, near=near).bounds

    def weigh(
        self,
        limit: float | None,
        *,
        alpha_lower: float,
        alpha_upper: float,
        near: Bounds | None = None,
    ) -> Weighed:
        """Return the bounds, and the evidence against `limit`, as for the ratio."""
        if not self.requests:
            return Weighed(Bounds(0.0, 1.0), 0.0, 0.0)
        found = last_rejected(
            self._log_evidence,
            (alpha_lower, alpha_upper),
            reach=RATE_REACH,
            near=(None, None) if near is None else (_log_odds(near.lower), _log_odds(near.upper)),
            at=None if limit is None else _logit(limit),
        )
        bounds = Bounds(
            0.0 if found.lower is None else 1 / (1 + math.exp(-found.lower)),
            1.0 if found.upper is None else 1 / (1 + math.exp(-found.upper)),
        )
        return Weighed(bounds, found.above, found.below)

    def _log_evidence(self, x: FloatArray, side: FloatArray) -> Points:
        """Return log E [P] at points [P], and its slope [P]."""
        points = _alternatives(x, side, self.mixture)
        soft = np.logaddexp(0.0, points)
        values = self.events * points - self.requests * soft
        return _mix(self.mixture, values, self.events - self.requests * np.exp(points - soft))


def check_counts(n: int, k: int, *, arm: str) -> None:
    """Refuse counts that no interval can have.

    Raises
    ------
    InvalidInputError
        ``k`` or ``n`` is negative, or ``k > n``.
    """
    if n < 0 or k < 0:
        raise InvalidInputError(f"a count is negative: {k} events in {n} requests", where=arm)
    if k > n:
        raise InvalidInputError(f"more events than requests: {k} in {n}", where=arm)


def _alternatives(x: FloatArray, side: FloatArray, mixture: Mixture) -> FloatArray:
    """Return [P, 1 + K]: each tested point [P], and the points that far beyond it on its side."""
    return np.asarray(x[:, None] + side[:, None] * mixture.from_tested)


def _mix(mixture: Mixture, values: FloatArray, slopes: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return log E and its slope, [P] each, from log-likelihoods and slopes [P, 1 + K].

    The tested point's come first.
    """
    terms = values[:, 1:] - values[:, :1]
    terms += mixture.log_weights
    top = np.maximum.reduce(terms, axis=1)
    terms -= top[:, None]
    shares = np.exp(terms, out=terms)
    total = np.add.reduce(shares, axis=1)
    shares *= slopes[:, 1:]
    return top + np.log(total), np.add.reduce(shares, axis=1) / total - slopes[:, 0]


def _log(value: float) -> float | None:
    return math.log(value) if 0.0 < value < math.inf else None


def _log_odds(rate: float) -> float | None:
    return _logit(rate) if 0.0 < rate < 1.0 else None


def _logit(rate: float) -> float:
    if not 0.0 < rate < 1.0:
        raise InvalidInputError(f"a rate under test lies between 0 and 1, not {rate}")
    return math.log(rate) - math.log1p(-rate)
