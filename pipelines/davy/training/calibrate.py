"""What past weeks look like: the nulls of drift, and the expected spread of the scores.

Belongs here: reading a reference into the contract's calibration. Not here: the distances
(`davy.drift`), or judging live windows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from davy.data.task import Monitoring, Task
from davy.drift.null import null_distances
from davy.packaging.contract import Calibration, FeatureNull
from davy.protocol.names import SCORE
from davy.training.reference import read_reference

# With eight weeks the smallest p-value is about 1/800, below what Benjamini-Hochberg asks of the
# first of some thirty tests at a false discovery rate of 0.05.
DRAWS_PER_BLOCK = 100
BUCKETS = 10


def calibrate(task: Task, reference: Path) -> Calibration:
    """Measure the reference's own weeks against each other.

    Parameters
    ----------
    task : Task
        Features, window size, floors, seed.
    reference : Path
        The file that `davy.training.reference.write_reference` wrote.

    Returns
    -------
    Calibration
        Nulls by feature and detector, the model's ``score`` among the features; inner edges of
        the score's buckets (deciles, so there are `BUCKETS` - 1, fewer where they tie) and the
        share of the reference in each bucket. A score on an edge belongs to the bucket below it.

    Raises
    ------
    NotFoundError
        There is no such file.
    InvalidInputError
        It lacks a column, or holds fewer than two weeks.
    """
    columns = read_reference(task, reference)
    return calibrate_blocks(
        columns, columns.pop("block"), monitoring=task.monitoring, seed=task.model.seed
    )


def calibrate_blocks(
    columns: Mapping[str, npt.NDArray[Any]],
    block: npt.NDArray[Any],
    *,
    monitoring: Monitoring,
    seed: int,
) -> Calibration:
    """Measure blocks of rows against each other.

    Parameters
    ----------
    columns : mapping of str to array of shape [rows]
        Every feature and the ``score``: float64 with NaN for missing, or int64 for a category.
    block : array of shape [rows]
        Number of each row's block of time.
    monitoring : Monitoring
        Window size and floors.
    seed : int
        Of the draws.

    Returns
    -------
    Calibration
        As `calibrate` does.

    Raises
    ------
    InvalidInputError
        There are fewer than two blocks.
    """
    blocks = {
        int(number): {name: values[block == number] for name, values in columns.items()}
        for number in np.unique(block)
    }
    distances = null_distances(
        blocks,
        window_rows=monitoring.window_rows,
        draws_per_block=DRAWS_PER_BLOCK,
        rng=np.random.default_rng(seed),
    )
    floors = monitoring.floors.model_dump()
    edges, shares = score_buckets(columns[SCORE])
    return Calibration(
        window_rows=monitoring.window_rows,
        blocks=len(blocks),
        nulls=[
            FeatureNull(
                feature=feature,
                detector=detector,
                distances=[round(float(value), 5) for value in values],
                floor=floors[detector],
            )
            for (feature, detector), values in distances.items()
        ],
        score_buckets=edges,
        score_shares=shares,
    )


def score_buckets(scores: npt.NDArray[np.float64]) -> tuple[list[float], list[float]]:
    """Return the inner decile edges of the scores, and the share of them in each bucket.

    Examples
    --------
    >>> edges, shares = score_buckets(np.arange(1, 101) / 100)
    >>> len(edges), len(shares), round(sum(shares), 6)
    (9, 10, 1.0)
    """
    inner = np.linspace(0, 1, BUCKETS + 1)[1:-1]
    edges = np.unique(np.quantile(scores, inner, method="inverted_cdf"))
    counts = np.bincount(np.searchsorted(edges, scores, side="left"), minlength=edges.size + 1)
    return edges.tolist(), (counts / scores.size).tolist()
