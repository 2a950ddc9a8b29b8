"""Where evidence stops rejecting: the bound of a confidence sequence, from both sides at once.

Belongs here: root finding for evidence that falls with the value under test.
Not here: the evidence itself (`davy.rollout.sequential`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
# Log evidence and its slope, at the points that were asked for.
Points = tuple[FloatArray, FloatArray]
_Search = Generator[tuple[float, ...], Points, float | None]

# Bounds are found to within this many log units, on the side that claims less.
TOLERANCE = 1e-6
# Points of the first scan, and how often Newton may step before halving takes over.
SECTIONS, NEWTON_STEPS = 16, 12


class Found(NamedTuple):
    """The last rejected point from below and from above; None where none is rejected.

    ``above`` and ``below`` are the log evidence against one point more, from both sides.
    """

    lower: float | None
    upper: float | None
    above: float
    below: float


def last_rejected(
    log_evidence: Callable[[FloatArray, FloatArray], Points],
    alphas: tuple[float, float],
    *,
    reach: float,
    near: tuple[float | None, float | None],
    at: float | None = None,
) -> Found:
    """Return the last rejected points, and the evidence against `at`; 0 where that is None.

    Both sides are looked for side by side, so that one evaluation answers both; what is asked of
    `at` goes with the first.
    """
    above = _search(1.0, -math.log(alphas[0]), reach, near[0])
    below = _search(-1.0, -math.log(alphas[1]), reach, near[1])
    upward, downward = next(above), next(below)
    lower = upper = None
    asked = () if at is None else (at, at)
    against = (0.0, 0.0)
    while upward or downward:
        split = len(upward)
        side = _SIDES if split == len(downward) == 1 else _sides(split, len(downward))
        if asked:
            side = np.concatenate((side, _SIDES))
        values, slopes = log_evidence(np.array((*upward, *downward, *asked)), side)
        if asked:
            asked, against = (), (float(values[-2]), float(values[-1]))
            values, slopes = values[:-2], slopes[:-2]
        if upward:
            try:
                upward = above.send((values[:split], slopes[:split]))
            except StopIteration as done:
                upward, lower = (), done.value
        if downward:
            try:
                downward = below.send((values[split:], slopes[split:]))
            except StopIteration as done:
                downward, upper = (), done.value
    return Found(lower, upper, *against)


_SIDES: FloatArray = np.array([1.0, -1.0])
_SIDES.setflags(write=False)


def _sides(upward: int, downward: int) -> FloatArray:
    return np.repeat(_SIDES, (upward, downward))


def _search(side: float, threshold: float, reach: float, near: float | None) -> _Search:
    """Yield points to evaluate, and return the last rejected one, coming from the side's end.

    The evidence falls on the way (fact 2), so what is kept, and returned, is a rejected point no
    farther than `TOLERANCE` before the first that is not.
    """
    if near is not None and -reach < near < reach:
        found = yield from _newton(side, threshold, near, -side * reach, side * reach)
        if found is not None:
            return found
    points = np.linspace(-side * reach, side * reach, SECTIONS)
    values, _ = yield tuple(points)
    excess = values - threshold
    passed = SECTIONS if (excess >= 0).all() else int(np.argmin(excess >= 0))
    if passed in (0, SECTIONS):
        return None if passed == 0 else side * reach
    rejected, open_ = float(points[passed - 1]), float(points[passed])
    share = float(excess[passed - 1] / (excess[passed - 1] - excess[passed]))
    guess = rejected + share * (open_ - rejected)
    found = yield from _newton(side, threshold, guess, rejected, open_)
    while found is None:
        if abs(open_ - rejected) <= TOLERANCE:
            found = rejected
            break
        middle = (rejected + open_) / 2
        values, _ = yield (middle,)
        if float(values[0]) >= threshold:
            rejected = middle
        else:
            open_ = middle
    return found


def _newton(side: float, threshold: float, x: float, rejected: float, open_: float) -> _Search:
    """Newton's steps to the last rejected point; None when they leave the bracket or go on long."""
    for _ in range(NEWTON_STEPS):
        values, slopes = yield (x,)
        excess, slope = float(values[0]) - threshold, abs(float(slopes[0]))
        if 0 <= excess <= TOLERANCE * slope:
            return x
        if excess >= 0:
            rejected = x
        else:
            open_ = x
        if slope == 0:
            return None
        # Aimed at the middle of what is near enough.
        x += side * (excess / slope - 0.5 * TOLERANCE)
        if not min(rejected, open_) < x < max(rejected, open_):
            return None
    return None
