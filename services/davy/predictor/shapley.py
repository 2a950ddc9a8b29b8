"""Shapley values of a score by sampling permutations against background rows.

Belongs here: the estimate and its standard error, from a function that scores rows.
Not here: the model, where background rows come from, deadlines, the protocol.

A feature's Shapley value is its average contribution when features are switched from a background
row to the explained row one after the other, over all orders and background rows [1]_. Walking
one order from end to end gives each feature one contribution, and these add up to the difference
of the two rows' scores: so whatever was sampled, attributions and base value add up to the score.
Sampling orders is due to [2]_. Each order is walked in both directions, which lets much of the
error of one walk cancel that of the other.

References
----------
.. [1] E. Štrumbelj, I. Kononenko, "Explaining prediction models and individual predictions with
   feature contributions", Knowledge and Information Systems 41, 647-665, 2014.
.. [2] J. Castro, D. Gómez, J. Tejada, "Polynomial calculation of the Shapley value based on
   sampling", Computers & Operations Research 36, 1726-1730, 2009.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from davy.core.errors import InvalidInputError

Column = npt.NDArray[Any]
Columns = Mapping[str, Column]
Floats = npt.NDArray[np.float64]

# Rows that are scored together: enough to make calls cheap, few enough to stop in time.
ROUND_ROWS = 1024


@dataclass(frozen=True, slots=True)
class Attributions:
    """What was found for n rows of d features.

    Attributes
    ----------
    features : tuple of str
        Names, in the order of the columns below.
    values, errors : array of float, shape (n, d)
        Attributions in the score's unit, and their standard errors. An error is that of
        independent draws; where background rows are few and all of them were drawn, it is less.
    base : array of float, shape (n,)
        Mean score of the background rows that were drawn.
    walks : int
        Orders that were walked.
    """

    features: tuple[str, ...]
    values: Floats
    errors: Floats
    base: Floats
    walks: int


def attribute(
    score: Callable[[Columns], Column],
    rows: Columns,
    background: Columns,
    *,
    rng: np.random.Generator,
    more: Callable[[int], bool],
    max_walks: int,
) -> Attributions:
    """Estimate the Shapley values of every row.

    Parameters
    ----------
    score : callable
        Takes named columns of equal length m and returns m scores.
    rows : mapping of str to array
        The n rows to explain; each column's first axis is the row.
    background : mapping of str to array
        Rows that stand for "feature unknown"; the same names.
    rng : numpy.random.Generator
        Draws background rows and orders.
    more : callable
        Asked before each round with the number of walks done: whether to do another one.
    max_walks : int
        Walks at most; 4 at least, because an error needs two pairs.

    Raises
    ------
    InvalidInputError
        There are no background rows, or a score is not a finite number.

    Examples
    --------
    >>> def score(columns):
    ...     return 2 * columns["a"] + columns["b"]
    >>> found = attribute(
    ...     score,
    ...     {"a": np.array([3.0]), "b": np.array([1.0])},
    ...     {"a": np.array([1.0]), "b": np.array([0.0])},
    ...     rng=np.random.default_rng(1), more=lambda walks: walks < 4, max_walks=4,
    ... )
    >>> found.values.tolist(), found.base.tolist()
    ([[4.0, 1.0]], [2.0])
    """
    features = tuple(rows)
    count = len(rows[features[0]])
    held = len(background[features[0]])
    if held == 0:
        raise InvalidInputError("has no rows to explain against", where="reference")
    ends = _scored(score, rows, count)
    tally = _Tally(count, len(features))
    draws = _Draws(held, rng)
    pairs = max(1, max_walks // 2)
    fit = max(1, ROUND_ROWS // max(1, count * 2 * (len(features) - 1)))
    while tally.pairs < pairs and more(2 * tally.pairs):
        # Two pairs at least in the first round: one alone has no standard error.
        size = min(fit if tally.pairs else max(2, fit), pairs - tally.pairs)
        tally.add(*_round(score, rows, background, ends, draws.take(size), rng))
    return Attributions(features, tally.mean(), tally.errors(), tally.base(), 2 * tally.pairs)


class _Draws:
    """Background rows in random order, each once before any of them a second time."""

    def __init__(self, held: int, rng: np.random.Generator) -> None:
        self._held = held
        self._rng = rng
        self._left = rng.permutation(held)

    def take(self, size: int) -> npt.NDArray[np.intp]:
        while len(self._left) < size:
            self._left = np.concatenate([self._left, self._rng.permutation(self._held)])
        taken, self._left = self._left[:size], self._left[size:]
        return taken


class _Tally:
    """Sums over pairs of walks: the mean of a pair is one independent draw."""

    def __init__(self, rows: int, features: int) -> None:
        self.pairs = 0
        self._sum = np.zeros((rows, features))
        self._squares = np.zeros((rows, features))
        self._starts = np.zeros(rows)

    def add(self, contributions: Floats, starts: Floats) -> None:
        """Add contributions of shape (rows, pairs, features), scores of the pairs' starts."""
        self._sum += contributions.sum(axis=1)
        self._squares += (contributions**2).sum(axis=1)
        self._starts += starts.sum()
        self.pairs += len(starts)

    def mean(self) -> Floats:
        return self._sum / max(1, self.pairs)

    def base(self) -> Floats:
        return self._starts / max(1, self.pairs)

    def errors(self) -> Floats:
        if self.pairs < 2:
            return np.full_like(self._sum, np.nan)
        spread = np.maximum(self._squares / self.pairs - self.mean() ** 2, 0.0)
        errors: Floats = np.sqrt(spread / (self.pairs - 1))
        return errors


def _round(
    score: Callable[[Columns], Column],
    rows: Columns,
    background: Columns,
    ends: Floats,
    drawn: npt.NDArray[np.intp],
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    """Walk one order a drawn background row, there and back, for every row."""
    count, pairs, width = len(ends), len(drawn), len(rows)
    ranks = np.array([rng.permutation(width) for _ in range(pairs)])
    both = np.stack([ranks, width - 1 - ranks], axis=1)
    # switched[pair, way, step, feature]: whether the feature is the explained row's by then.
    switched = both[:, :, None, :] <= np.arange(width - 1)[:, None]
    start = {name: column[drawn] for name, column in background.items()}
    starts = _scored(score, start, pairs)
    scores = np.empty((count, pairs, 2, width + 1))
    scores[..., 0] = starts[:, None]
    scores[..., -1] = ends[:, None, None]
    steps = (count, pairs, 2, width - 1)
    if width > 1:
        mixed = {
            name: _mix(switched[..., place], rows[name], start[name], steps)
            for place, name in enumerate(rows)
        }
        scores[..., 1:-1] = _scored(score, mixed, int(np.prod(steps))).reshape(steps)
    gains = np.diff(scores, axis=-1)
    order = np.broadcast_to(both, (count, *both.shape))
    values: Floats = np.take_along_axis(gains, order, axis=-1).mean(axis=2)
    return values, starts


def _mix(
    switched: npt.NDArray[np.bool_], row: Column, start: Column, steps: tuple[int, ...]
) -> Column:
    """Return one feature of every step of every walk, with the axes of `steps` made one."""
    inner = row.shape[1:]
    shape = (*steps, *inner)
    extra = (1,) * len(inner)
    mixed: Column = np.where(
        switched.reshape(1, *switched.shape, *extra),
        row.reshape(len(row), 1, 1, 1, *inner),
        start.reshape(1, len(start), 1, 1, *inner),
    )
    return np.broadcast_to(mixed, shape).reshape(-1, *inner)


def _scored(score: Callable[[Columns], Column], columns: Columns, count: int) -> Floats:
    """Score rows, not too many at once."""
    parts = [
        np.asarray(score({k: v[at : at + ROUND_ROWS] for k, v in columns.items()}), np.float64)
        for at in range(0, count, ROUND_ROWS)
    ]
    scores: Floats = np.concatenate([part.reshape(len(part), -1)[:, 0] for part in parts])
    if not np.isfinite(scores).all():
        raise InvalidInputError("is not a finite number, which nothing adds up to", where="score")
    return scores
