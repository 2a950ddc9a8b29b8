"""What a rollout would do at given true rates: many seeded rollouts at once.

Belongs here: the simulation. Not here: what people read of it (`davy.rollout.plan`).

It decides as `davy.rollout.decide` does, on the same evidence: a bound of the ratio is beyond a
tested value exactly when the evidence against that value has reached 1/alpha, so one value each is
tested instead of a bound being searched for. A test runs both on the same counts and compares.

What it does not know: pods (a fail that a single pod explains asks for another pod first), missing
scrapes, servers that are not ready, vetoes, outages. It is the best case of the traffic given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from davy.rollout.pods import RESERVED
from davy.rollout.sequential import RATE_MIXTURE, RATIO_MIXTURE, Mixture
from davy.rollout.spec import RolloutSpec
from davy.rollout.verdict import Criterion

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

RUNS = 200
# Looks that are simulated at most: more would not change what is read off by a tenth.
MOST_LOOKS = 240


@dataclass(frozen=True, slots=True)
class Rates:
    """True event rates of an indicator in the stable arm and in the canary."""

    stable: float
    canary: float


@dataclass(frozen=True, slots=True)
class Power:
    """What became of many rollouts. Shares of all; times in seconds; None: of none of them.

    ``left`` are median times at which the steps were left by those that were promoted; ``requests``
    and ``seconds`` are medians of canary requests and time until the rollback; ``late`` is the time
    by which nine of ten of the promoted were.
    """

    runs: int
    rolled_back: float
    promoted: float
    requests: float | None
    seconds: float | None
    promoted_seconds: float | None
    promoted_requests: float | None
    late: float | None
    left: tuple[float, ...]

    @property
    def undecided(self) -> float:
        """Share that the deadline ended without a verdict."""
        return 1.0 - self.rolled_back - self.promoted


@dataclass(frozen=True, slots=True)
class Interval:
    """Counts of many runs between two looks, each [R]."""

    n_stable: IntArray
    k_stable: IntArray
    n_canary: IntArray
    k_canary: IntArray


class ManyEvidence:
    """Evidence of one indicator in many runs against what is tolerable, and against what is not."""

    def __init__(self, criterion: Criterion, runs: int) -> None:
        self._criterion = criterion
        self._points = _points(math.log(criterion.ratio), RATIO_MIXTURE)
        self._likelihood = np.zeros((runs, self._points.size))
        self._canary = np.zeros((2, runs))
        self._rate_points = None
        if criterion.allowance > 0:
            odds = math.log(criterion.allowance) - math.log1p(-criterion.allowance)
            self._rate_points = _points(odds, RATE_MIXTURE)

    def add(self, interval: Interval, *, comparable: bool) -> None:
        """Take over one interval; one that is not comparable counts for the rate only."""
        self._canary[0] += interval.n_canary
        self._canary[1] += interval.k_canary
        if not comparable:
            return
        total = interval.k_stable + interval.k_canary
        rows = np.flatnonzero((total > 0) & (interval.n_stable > 0) & (interval.n_canary > 0))
        if not rows.size:
            return
        odds = np.log(interval.n_canary[rows]) - np.log(interval.n_stable[rows])
        z = odds[:, None] + self._points
        rise = interval.k_canary[rows, None] * z - total[rows, None] * np.logaddexp(0.0, z)
        self._likelihood[rows] += rise - rise[:, :1]

    def verdicts(self) -> tuple[BoolArray, BoolArray]:
        """Return which runs fail and which pass, each [R]."""
        wanted = self._criterion
        alpha_pass = (
            wanted.alpha_pass * (1 - RESERVED) / 2
        )  # by ratio or by rate, as `judge` has it
        above, below = _both_sides(self._likelihood, RATIO_MIXTURE)
        fails = above >= -math.log(wanted.alpha_fail)
        passes = below >= -math.log(alpha_pass)
        if self._rate_points is not None:
            requests, events = self._canary
            points = self._rate_points
            values = events[:, None] * points - requests[:, None] * np.logaddexp(0.0, points)
            above, below = _both_sides(values, RATE_MIXTURE)
            fails &= above >= -math.log(wanted.alpha_fail)
            passes |= below >= -math.log(alpha_pass)
        return fails, passes & ~fails

    def keep(self, rows: BoolArray) -> None:
        """Forget the runs that have ended."""
        self._likelihood, self._canary = self._likelihood[rows], self._canary[:, rows]


def _points(tested: float, mixture: Mixture) -> FloatArray:
    """Return the tested value, the alternatives above it, and those below: [1 + 2K]."""
    return np.concatenate(([0.0], mixture.distances, -mixture.distances)) + tested


def _both_sides(values: FloatArray, mixture: Mixture) -> tuple[FloatArray, FloatArray]:
    """Return log E that the truth lies above the tested value, and that it lies below: each [R]."""
    count = mixture.distances.size
    terms = values[:, 1:] - values[:, :1]
    terms[:, :count] += mixture.log_weights
    terms[:, count:] += mixture.log_weights
    return (
        np.logaddexp.reduce(terms[:, :count], axis=1),
        np.logaddexp.reduce(terms[:, count:], axis=1),
    )


class ManyRollouts:
    """Steps, times and ends of many rollouts of one spec, each array [R] of those under way."""

    def __init__(self, spec: RolloutSpec, criteria: Sequence[Criterion], runs: int) -> None:
        self.spec = spec
        self.weights = np.array([step.weight for step in spec.steps])
        self.evidence = {item.name: ManyEvidence(item, runs) for item in criteria}
        self.index = np.arange(runs)
        self.step = np.zeros(runs, dtype=np.int64)
        self.since = np.zeros(runs)  # when the weight was asked for
        self.at_step = np.zeros(runs, dtype=np.int64)
        self.requests = np.zeros(runs, dtype=np.int64)
        self.fresh = np.ones(runs, dtype=np.bool_)  # the weight changed at the last look
        self.end = np.full(runs, "undecided", dtype="<U9")
        self.ended_at = np.full(runs, np.nan)
        self.ended_requests = np.zeros(runs)
        self.left = np.full((runs, self.weights.size), np.nan)

    def look(self, now: float) -> None:
        """Decide on the evidence at one look, in seconds since the first."""
        fails = np.zeros(self.index.size, dtype=np.bool_)
        passes = np.ones(self.index.size, dtype=np.bool_)
        for item in self.evidence.values():
            failing, passing = item.verdicts()
            fails |= failing
            passes &= passing
        late = now >= self.spec.analysis.deadline.total_seconds()
        steps = self.spec.steps
        minimum = np.array([step.min_requests for step in steps])[self.step]
        youngest = np.array([step.min_duration.total_seconds() for step in steps])[self.step]
        done = passes & (self.at_step >= minimum) & (now - self.since >= youngest) & ~fails
        done &= not late
        last = self.step == len(steps) - 1
        self.left[self.index[done], self.step[done]] = now
        self._close(fails, "back", now)
        self._close(done & last, "promoted", now)
        self.fresh = done & ~last
        self.step[self.fresh] += 1
        self.since[self.fresh] = now
        self.at_step[self.fresh] = 0
        self._keep(~(fails | (done & last)))

    def _close(self, rows: BoolArray, how: str, now: float) -> None:
        self.end[self.index[rows]] = how
        self.ended_at[self.index[rows]] = now
        self.ended_requests[self.index[rows]] = self.requests[rows]

    def _keep(self, rows: BoolArray) -> None:
        if rows.all():
            return
        for name in ("index", "step", "since", "at_step", "requests", "fresh"):
            setattr(self, name, getattr(self, name)[rows])
        for item in self.evidence.values():
            item.keep(rows)


def look_interval(spec: RolloutSpec) -> float:
    """Return the seconds between two simulated looks: the spec's, or more for a long rollout."""
    deadline = spec.analysis.deadline.total_seconds()
    return max(spec.analysis.interval.total_seconds(), deadline / MOST_LOOKS)


def simulate(
    spec: RolloutSpec,
    criteria: Sequence[Criterion],
    rates: Mapping[str, Rates],
    *,
    traffic: float,
    runs: int = RUNS,
    seed: int = 0,
) -> Power:
    """Return what becomes of rollouts whose arms have these event rates.

    Parameters
    ----------
    spec : RolloutSpec
        Its steps, interval and deadline.
    criteria : sequence of Criterion
        What is judged.
    rates : mapping of str to Rates
        True rates of each of them.
    traffic : float
        Requests a second to both arms together.
    runs, seed : int
        How many rollouts, and the seed of what they see.
    """
    rng = np.random.default_rng(seed)
    many = ManyRollouts(spec, criteria, runs)
    interval, between = spec.analysis.interval.total_seconds(), look_interval(spec)
    looks = math.ceil(spec.analysis.deadline.total_seconds() / between)
    for number in range(1, looks + 1):
        # The weight takes hold within an interval, which then counts for the rate only.
        for seconds, first in ((interval, True), (between - interval, False)):
            if seconds > 0:
                _serve(many, rates, rng, traffic * seconds, first=first)
        many.look(number * between)
        if not many.index.size:
            break
    return _power(many, runs)


def _serve(
    many: ManyRollouts,
    rates: Mapping[str, Rates],
    rng: np.random.Generator,
    requests: float,
    *,
    first: bool,
) -> None:
    share = many.weights[many.step] / 100
    n_canary = rng.poisson(requests * share)
    n_stable = rng.poisson(requests * (share if many.spec.analysis.baseline else 1 - share))
    split = many.fresh if first else np.zeros_like(many.fresh)
    many.requests += n_canary
    many.at_step += np.where(split, 0, n_canary)
    none = np.zeros_like(n_canary)
    for name, evidence in many.evidence.items():
        truth = rates[name]
        k_stable = rng.binomial(n_stable, truth.stable)
        k_canary = rng.binomial(n_canary, truth.canary)
        if split.any():
            only_rate = Interval(
                none, none, np.where(split, n_canary, 0), np.where(split, k_canary, 0)
            )
            evidence.add(only_rate, comparable=False)
        evidence.add(
            Interval(
                np.where(split, 0, n_stable), np.where(split, 0, k_stable),
                np.where(split, 0, n_canary), np.where(split, 0, k_canary),
            ),
            comparable=True,
        )  # fmt: skip


def _power(many: ManyRollouts, runs: int) -> Power:
    back, promoted = many.end == "back", many.end == "promoted"

    def median(values: FloatArray, rows: BoolArray) -> float | None:
        return float(np.median(values[rows])) if rows.any() else None

    left = many.left[promoted]
    return Power(
        runs=runs,
        rolled_back=float(back.mean()),
        promoted=float(promoted.mean()),
        requests=median(many.ended_requests, back),
        seconds=median(many.ended_at, back),
        promoted_seconds=median(many.ended_at, promoted),
        promoted_requests=median(many.ended_requests, promoted),
        late=float(np.quantile(many.ended_at[promoted], 0.9)) if promoted.any() else None,
        left=tuple(float(value) for value in np.median(left, axis=0)) if promoted.any() else (),
    )
