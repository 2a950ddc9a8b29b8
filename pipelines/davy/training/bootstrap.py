"""Confidence intervals of means over requests by resampling the units behind them.

Belongs here: the percentile bootstrap over clusters, and Holm's levels. Not here: what is
averaged.

Requests of one household resemble each other, so households are drawn, not requests
(Efron and Tibshirani, "An introduction to the bootstrap", 1993; Cameron, Gelbach and Miller,
"Bootstrap-based improvements for inference with clustered errors", 2008). The same draws serve
every measure and segment, which keeps comparisons paired.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from davy.core.errors import InvalidInputError
from davy.packaging.contract import Interval

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Resamples:
    """Seeded draws of units with replacement, as how often each unit was drawn.

    Attributes
    ----------
    counts : array of shape [draws, units]
        Times that a unit is in a draw.
    unit : array of shape [requests]
        Index of the unit behind each request.
    """

    counts: npt.NDArray[np.float32]
    unit: npt.NDArray[np.int64]

    def means(self, values: Floats, where: npt.NDArray[np.bool_] | None = None) -> Floats:
        """Return the mean of `values` (one a request) over the requests of each draw.

        A draw that holds no request of `where` gives NaN.
        """
        chosen = np.ones(values.size, dtype=bool) if where is None else where
        width = self.counts.shape[1]
        sums = np.bincount(self.unit[chosen], weights=values[chosen], minlength=width)
        rows = np.bincount(self.unit[chosen], minlength=width)
        both = self.counts @ np.stack([sums, rows], axis=1).astype(np.float32)
        with np.errstate(invalid="ignore"):
            result: Floats = both[:, 0].astype(np.float64) / both[:, 1]
        return result


def resample(units: npt.ArrayLike, *, draws: int, rng: np.random.Generator) -> Resamples:
    """Draw units with replacement, `draws` times as many as there are.

    Parameters
    ----------
    units : array of shape [requests]
        Which unit (household) each request belongs to; anything that can be sorted.
    draws : int
        How many times.
    rng : Generator
        Where chance comes from.

    Raises
    ------
    InvalidInputError
        There are fewer than two units: nothing can be said about their spread.
    """
    unit, width = _numbered(units)
    picks = rng.integers(width, size=(draws, width))
    flat = (picks + np.arange(draws)[:, None] * width).ravel()
    counts = np.bincount(flat, minlength=draws * width).reshape(draws, width)
    return Resamples(counts=counts.astype(np.float32), unit=unit)


def draw_weights(units: npt.ArrayLike, *, draws: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Yield one draw after another of `resample`, as the weight of each row.

    One vector at a time, so that a table of a million rows needs no more than a model of it does.

    Parameters
    ----------
    units : array of shape [rows]
        Which unit (household) each row belongs to; anything that can be sorted.
    draws : int
        How many times.
    rng : Generator
        Where chance comes from.

    Raises
    ------
    InvalidInputError
        There are fewer than two units.
    """
    unit, width = _numbered(units)
    for _ in range(draws):
        counts = np.bincount(rng.integers(width, size=width), minlength=width)
        yield counts.astype(np.float64)[unit]


def _numbered(units: npt.ArrayLike) -> tuple[npt.NDArray[np.int64], int]:
    names, unit = np.unique(np.asarray(units), return_inverse=True)
    if names.size < 2:
        raise InvalidInputError(
            f"an interval needs at least two units, found {names.size}",
            where="bootstrap",
            fix="Keep more households",
        )
    return unit.reshape(-1).astype(np.int64), int(names.size)


def interval(
    resamples: Resamples,
    values: npt.ArrayLike,
    where: npt.NDArray[np.bool_] | None = None,
    *,
    level: float = 0.95,
) -> Interval:
    """Return the mean of `values` with its two-sided percentile interval.

    Parameters
    ----------
    resamples : Resamples
        Draws over the units of the same requests.
    values : array of shape [requests]
        One value a request.
    where : array of bool of shape [requests], optional
        Requests that count; all when absent.
    level : float
        Chance that the interval holds the truth.

    Returns
    -------
    Interval
        ``n`` is the number of requests.

    Raises
    ------
    InvalidInputError
        `values` has another length than the draws were made for, or no request counts.
    """
    value = np.asarray(values, dtype=np.float64)
    if value.shape != resamples.unit.shape:
        raise InvalidInputError(
            f"{value.size} values for {resamples.unit.size} requests", where="bootstrap"
        )
    chosen = np.ones(value.size, dtype=bool) if where is None else where
    count = int(chosen.sum())
    if count == 0:
        raise InvalidInputError("no request counts", where="bootstrap")
    means = resamples.means(value, chosen)
    tail = (1.0 - level) / 2.0
    lower, upper = np.nanquantile(means, [tail, 1.0 - tail])
    return Interval(
        value=float(value[chosen].mean()),
        lower=float(lower),
        upper=float(upper),
        n=count,
        level=level,
    )


def holm_levels(p_values: Sequence[float], *, alpha: float) -> list[float]:
    """Return the one-sided level at which Holm's procedure tests each hypothesis.

    The smallest p-value is tested at alpha / m, the next at alpha / (m - 1), and so on to the
    first that is not rejected; those after it keep that one's level. A one-sided bound at these
    levels excludes the hypothesis exactly where the procedure rejects it
    (Holm, "A simple sequentially rejective multiple test procedure", 1979).

    Examples
    --------
    >>> holm_levels([0.2, 0.001, 0.014], alpha=0.03)
    [0.03, 0.01, 0.015]
    >>> holm_levels([0.2, 0.001, 0.016], alpha=0.03)
    [0.015, 0.01, 0.015]
    """
    levels = [0.0] * len(p_values)
    level, rejecting = 0.0, True
    for done, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if rejecting:
            level = alpha / (len(p_values) - done)
            rejecting = p_values[index] <= level
        levels[index] = level
    return levels


def holm_intervals(
    resamples: Resamples,
    values: npt.ArrayLike,
    groups: Mapping[str, npt.NDArray[np.bool_]],
    *,
    above: float,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Return an interval for each group whose lower bounds hold for all groups at once.

    Parameters
    ----------
    resamples : Resamples
        Draws over the units of the same requests.
    values : array of shape [requests]
        One value a request.
    groups : mapping of name to array of bool of shape [requests]
        Requests of each group.
    above : float
        The value that the means are asked to be above: it orders Holm's steps.
    level : float
        Chance that no group whose true mean is at most `above` has its lower bound above it,
        as for a two-sided interval: each side errs with (1 - level) / 2. Each interval carries
        its own, adjusted level.
    """
    value = np.asarray(values, dtype=np.float64)
    p_values = []
    for mask in groups.values():
        means = resamples.means(value, mask)
        means = means[np.isfinite(means)]
        p_values.append((1.0 + float((means <= above).sum())) / (means.size + 1.0))
    levels = holm_levels(p_values, alpha=(1.0 - level) / 2.0)
    return {
        name: interval(resamples, value, mask, level=1.0 - 2.0 * one_sided)
        for (name, mask), one_sided in zip(groups.items(), levels, strict=True)
    }
