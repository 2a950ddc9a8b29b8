"""Streams of requests with known truth: traffic, defects, and what both arms then count.

Belongs here: drawing counts. Not here: judging them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import stats

from davy.rollout.batch import FloatArray, IntArray

RATE = 100.0  # requests a second, on average
LOOK = 10.0  # seconds
LOOKS = 8640  # a day
ERRORS, SLOW, OUTLIERS = 0.002, 0.005, 0.01
# One request in this many belongs to the segment that a defect may be confined to.
SEGMENTS = 10


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate that goes from one value to another within some hours of the start, and stays."""

    first: float
    last: float | None = None
    hours: float = 1.0

    def at(self, hour: float) -> float:
        """Return the rate at an hour."""
        last = self.first if self.last is None else self.last
        return self.first + min(hour / self.hours, 1.0) * (last - self.first)


@dataclass(frozen=True, slots=True)
class Defect:
    """What the canary does."""

    name: str
    errors: Rate = Rate(ERRORS)
    slow: Rate = Rate(SLOW)
    outliers: Rate = Rate(OUTLIERS)
    segment_errors: float = ERRORS
    tolerable: bool = False
    needs: str = ""  # an indicator beside errors and slow
    late: bool = False  # tolerable at first, so that a promotion may be right


def slower(factor: float, *, objective: float = 2.5758, spread: float = 0.5) -> float:
    """Return the share of slow answers once all take `factor` times as long.

    Latency is lognormal; before, the objective is its 99.5 % quantile, `objective` s.d. out.
    """
    return float(stats.norm.sf(objective - np.log(factor) / spread))


HEALTHY = Defect("none", tolerable=True)
MARGIN = Defect(
    "as bad as tolerable: errors ×1.5, slow ×1.5",
    errors=Rate(1.5 * ERRORS),
    slow=Rate(1.5 * SLOW),
    tolerable=True,
)
DEFECTS = (
    Defect("errors ×2", errors=Rate(2 * ERRORS)),
    Defect("errors ×5", errors=Rate(5 * ERRORS)),
    Defect("errors +0.5 point", errors=Rate(ERRORS + 0.005)),
    Defect("all answers 20 % slower", slow=Rate(slower(1.2))),
    Defect("1 % of answers hang", slow=Rate(SLOW + 0.01)),
    Defect("slow leak: 0.5 % to 5 % in 12 h", slow=Rate(SLOW, 0.05, 12), late=True),
    Defect("errors ×10 in one segment of ten", segment_errors=10 * ERRORS, needs="segments"),
    Defect("broken features: 10 % outliers", outliers=Rate(0.1), needs="outliers"),
)
JUST = Defect("just intolerable: errors ×1.51", errors=Rate(1.51 * ERRORS))


@dataclass(frozen=True, slots=True)
class Traffic:
    """How many requests come, and what hits both arms alike."""

    name: str
    daily: float = 0.0  # relative height of the wave
    bursts: float = 0.0  # squared coefficient of variation from look to look
    outages: bool = False


TRAFFICS = (
    Traffic("constant"),
    Traffic("daily wave", daily=0.7),
    Traffic("bursts", bursts=1.0),
    Traffic("shared outages", outages=True),
)


@dataclass(frozen=True, slots=True)
class Look:
    """Counts of one look, each [R]: requests, then events of errors, slow and outliers."""

    n_s: IntArray
    n_c: IntArray
    errors: tuple[IntArray, IntArray]
    slow: tuple[IntArray, IntArray]
    outliers: tuple[IntArray, IntArray]
    segment: tuple[IntArray, IntArray, IntArray, IntArray]  # n_s, k_s, n_c, k_c of errors


def looks(
    traffic: Traffic, defect: Defect, weight: float, runs: int, rng: np.random.Generator
) -> Iterator[Look]:
    """Yield a day of looks at many rollouts with the same truth."""
    outage = rng.integers(0, LOOKS, runs)
    for number in range(LOOKS):
        hour = number * LOOK / 3600
        mean = RATE * LOOK * (1 + traffic.daily * np.sin(2 * np.pi * hour / 24))
        means: FloatArray = np.full(runs, mean)
        if traffic.bursts:
            means = rng.gamma(1 / traffic.bursts, mean * traffic.bursts, runs)
        harm: FloatArray = np.ones(runs)
        if traffic.outages:
            # Ten minutes at a time of its own, and a bad look in twenty.
            harm = np.where((number - outage) % LOOKS < 60, 20.0, 1.0)
            harm = np.where(rng.random(runs) < 0.05, np.maximum(harm, 5.0), harm)
        n = rng.poisson(means)
        n_c = rng.binomial(n, weight)
        n_s = n - n_c
        yield _look(n_s, n_c, defect, hour, harm, rng)


def _look(
    n_s: IntArray,
    n_c: IntArray,
    defect: Defect,
    hour: float,
    harm: FloatArray,
    rng: np.random.Generator,
) -> Look:
    def draw(n: IntArray, rate: float) -> IntArray:
        return rng.binomial(n, np.minimum(rate * harm, 0.9))

    nothing = np.zeros_like(n_c)
    segment = (nothing, nothing, nothing, nothing)
    errors = (draw(n_s, ERRORS), draw(n_c, defect.errors.at(hour)))
    if defect.needs == "segments":
        in_s, in_c = rng.binomial(n_s, 1 / SEGMENTS), rng.binomial(n_c, 1 / SEGMENTS)
        segment = (in_s, draw(in_s, ERRORS), in_c, draw(in_c, defect.segment_errors))
        rest = (draw(n_s - in_s, ERRORS), draw(n_c - in_c, ERRORS))
        errors = (segment[1] + rest[0], segment[3] + rest[1])
    slow = (draw(n_s, SLOW), draw(n_c, defect.slow.at(hour)))
    outliers = (nothing, nothing)
    if defect.needs == "outliers":
        # What is unusual does not depend on whether the service is well.
        outliers = (rng.binomial(n_s, OUTLIERS), rng.binomial(n_c, defect.outliers.at(hour)))
    return Look(n_s, n_c, errors, slow, outliers, segment)
