"""How well a ranking puts what was bought first, one number a request.

Belongs here: ranking measures as vectors over requests. Not here: their intervals, or files.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from davy.core.errors import InvalidInputError

Floats = npt.NDArray[np.float64]


def ndcg(
    scores: npt.ArrayLike,
    labels: npt.ArrayLike,
    starts: npt.ArrayLike,
    relevant: npt.ArrayLike,
    *,
    k: int = 10,
) -> Floats:
    """Return NDCG at `k` with binary relevance for each request.

    The ideal ranking holds everything that was bought, also what was not among the candidates:
    a model is not forgiven for what it was never offered. Candidates with equal scores share the
    mean gain of the places that they occupy, so the order of the rows does not matter
    (McSherry and Najork, "Computing information retrieval performance measures efficiently in
    the presence of tied scores", ECIR 2008).

    Parameters
    ----------
    scores : array of shape [rows]
        Higher is better. Rows of a request are contiguous.
    labels : array of shape [rows]
        1 where the candidate was bought, else 0.
    starts : array of shape [requests]
        Row at which each request starts; ascending, the first is 0.
    relevant : array of shape [requests]
        How many different items were bought: the size of the basket.
    k : int
        Places that count.

    Returns
    -------
    array of shape [requests]
        Values between 0 and 1.

    Raises
    ------
    InvalidInputError
        Shapes do not fit, a score is not a number, a request has no row or no relevant item, or
        has more bought candidates than the basket holds.

    Examples
    --------
    One of two bought items at place 2: (1 / log2(3)) / (1 + 1 / log2(3)).

    >>> ndcg([0.9, 0.5, 0.1], [0, 1, 0], [0], [2]).round(4).tolist()
    [0.3869]
    """
    value = np.asarray(scores, dtype=np.float64)
    bought = np.asarray(labels, dtype=np.float64)
    start = np.asarray(starts, dtype=np.int64)
    ideal_size = np.asarray(relevant, dtype=np.int64)
    _check(value, bought, start, ideal_size)
    rows = value.size
    sizes = np.diff(np.append(start, rows))
    request = np.repeat(np.arange(start.size), sizes)
    order = np.lexsort((-value, request))
    place = np.arange(rows) - np.repeat(start, sizes)

    discounts = np.zeros(max(int(sizes.max()), k))
    discounts[:k] = 1.0 / np.log2(np.arange(2, k + 2))
    ranked = value[order]
    new_tie = np.ones(rows, dtype=bool)
    new_tie[1:] = (ranked[1:] != ranked[:-1]) | (request[1:] != request[:-1])
    tie_starts = np.flatnonzero(new_tie)
    tie_sizes = np.diff(np.append(tie_starts, rows))
    gain = (
        np.add.reduceat(bought[order], tie_starts)
        * np.add.reduceat(discounts[place], tie_starts)
        / tie_sizes
    )
    dcg = np.bincount(request[tie_starts], weights=gain, minlength=start.size)
    ideal = np.concatenate([[0.0], np.cumsum(discounts[:k])])[np.minimum(ideal_size, k)]
    result: Floats = dcg / ideal
    return result


def _check(
    value: Floats, bought: Floats, start: npt.NDArray[np.int64], size: npt.NDArray[np.int64]
) -> None:
    where = "ndcg"
    if value.ndim != 1 or value.shape != bought.shape or start.shape != size.shape:
        raise InvalidInputError(
            f"scores {value.shape} and labels {bought.shape}, starts {start.shape} and relevant "
            f"{size.shape} must be vectors of equal length",
            where=where,
        )
    if start.size == 0 or start[0] != 0 or start[-1] >= value.size or (np.diff(start) < 1).any():
        raise InvalidInputError(
            "starts must ascend from 0 and each request needs at least one row", where=where
        )
    if not np.isfinite(value).all():
        raise InvalidInputError(
            f"{int((~np.isfinite(value)).sum())} of {value.size} scores are not finite", where=where
        )
    if (size < 1).any() or (np.add.reduceat(bought, start) > size).any():
        raise InvalidInputError(
            "each request needs at least one relevant item, and no fewer than its bought "
            "candidates",
            where=where,
            fix="Check the column basket_size of the features",
        )
