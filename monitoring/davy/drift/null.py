"""How far real past weeks lie from each other: what a window's distance is compared with.

Belongs here: drawing past windows and measuring them. Not here: judging a new window.

Shuffled rows of the reference would know no weekday, no holiday and no trend: every new week
would look unusual beside them. So each null distance is that of a window of rows out of *one*
past block of time to the rows of all *other* blocks, which is what a new week goes through too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from davy.core.errors import InvalidInputError
from davy.drift.distance import (
    FeatureWindow,
    Values,
    is_category,
    kolmogorov_smirnov,
    missing_share,
    present,
    total_variation,
)

NullKey = tuple[str, str]
"""Feature and detector ("ks", "chi2" or "missing")."""


def null_distances(
    blocks: Mapping[int, FeatureWindow],
    *,
    window_rows: int,
    draws_per_block: int,
    rng: np.random.Generator,
) -> Mapping[NullKey, Values]:
    """Distances between past windows and the rest of the reference.

    Parameters
    ----------
    blocks : mapping of int to FeatureWindow
        The reference by block of time (a week, say): for each, every feature's rows as float64
        with NaN for missing, or as an integer type for a category.
    window_rows : int
        Rows of a live window. A draw takes that many rows of its block without repetition; from
        a block that has fewer, with repetition, which makes the distances larger (cautious).
    draws_per_block : int
        Windows drawn from each block. The smallest p-value that a null of n distances can give
        is 1 / (n + 1); with 27 tests in a window at a false discovery rate of 0.05, that needs
        540 distances or more for one feature to alarm alone: 100 draws from 8 blocks do it.
    rng : numpy.random.Generator
        Where the draws come from.

    Returns
    -------
    mapping of (feature, detector) to float64 array
        Ascending, shape [blocks x draws_per_block]. Fewer where a draw held no value to compare;
        a pair without any distance is absent. "ks" and "missing" for floats, "chi2" (whose
        distance is total variation) for categories.

    Raises
    ------
    InvalidInputError
        Fewer than two blocks, a block without rows, features or lengths that differ, or a size
        below 1.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> weeks = {week: {"price": rng.normal(size=500)} for week in range(4)}
    >>> nulls = null_distances(weeks, window_rows=200, draws_per_block=10, rng=rng)
    >>> nulls["price", "ks"].shape, nulls["price", "missing"].max()
    ((40,), 0.0)
    """
    _check(blocks, window_rows, draws_per_block)
    distances: dict[NullKey, list[float]] = {}
    names = list(next(iter(blocks.values())))
    for block in sorted(blocks):
        rows = len(next(iter(blocks[block].values())))
        # One set of rows per draw for all features: what varies together stays together.
        draws = [
            rng.choice(rows, size=window_rows, replace=rows < window_rows)
            for _ in range(draws_per_block)
        ]
        for name in names:
            rest = np.concatenate([blocks[other][name] for other in blocks if other != block])
            for detector, distance in _measure(name, blocks[block][name], rest, draws):
                distances.setdefault((name, detector), []).append(distance)
    return {key: np.sort(np.asarray(found)) for key, found in sorted(distances.items())}


def _measure(
    name: str, block: Values, rest: Values, draws: list[NDArray[np.int64]]
) -> Iterator[tuple[str, float]]:
    if is_category(block) != is_category(rest):
        raise InvalidInputError(
            "is an integer in one block and a float in another",
            where=f"feature '{name}'",
            fix="Give all blocks the same type",
        )
    if is_category(block):
        for draw in draws:
            yield "chi2", total_variation(block[draw], rest)
        return
    rest_sorted = np.sort(present(rest))
    rest_missing = missing_share(rest)
    for draw in draws:
        window = block[draw]
        yield "missing", abs(missing_share(window) - rest_missing)
        values = present(window)
        if values.size and rest_sorted.size:
            yield "ks", kolmogorov_smirnov(values, rest_sorted)


def _check(blocks: Mapping[int, FeatureWindow], window_rows: int, draws_per_block: int) -> None:
    if len(blocks) < 2:
        raise InvalidInputError(
            f"{len(blocks)} block(s) of time, and a null needs at least 2",
            where="reference",
            fix="Use a longer reference or shorter blocks",
        )
    if window_rows < 1 or draws_per_block < 1:
        raise InvalidInputError(
            f"window_rows {window_rows} and draws_per_block {draws_per_block} must be at least 1",
            where="calibration",
        )
    features = set(next(iter(blocks.values())))
    for block, window in blocks.items():
        where = f"block {block} of the reference"
        if set(window) != features:
            odd = sorted(set(window) ^ features)
            raise InvalidInputError(f"features differ from the first block's: {odd}", where=where)
        lengths = {len(values) for values in window.values()}
        if len(lengths) != 1 or 0 in lengths:
            raise InvalidInputError(
                f"every feature needs the same number of rows, above 0; found {sorted(lengths)}",
                where=where,
            )
