"""Isolation forest as plain arrays, scored by NumPy alone.

Belongs here: the trees and their scoring. Not here: growing them (`davy.outlier.forest_fit`),
which needs scikit-learn.

It finds rows in sparse regions of any form, also where no linear relation shows them. It follows
every tree for every row: some thirty times the work of a Mahalanobis distance at 100 rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from davy.outlier.encode import Encoder, Floats
from davy.outlier.interface import Rows, Scores

# Rows that follow the trees together: several numbers are held for each of them and each tree.
CHUNK_ROWS = 1_000


@dataclass(frozen=True, slots=True, eq=False)
class IsolationForest:
    """All trees in one set of arrays, a node after its left sibling's whole subtree.

    Attributes
    ----------
    encoder : Encoder
        Gives what the nodes compare.
    roots : array
        Place of each tree's root, [trees].
    feature : array
        Encoded column that a node compares, -1 for a leaf; [nodes].
    threshold : array
        A row at most this goes left, to the next node; else to ``right``.
    right : array
        Place of the right child; 0 for a leaf.
    length : array
        Of a leaf: its depth and the mean depth of a tree of the rows that it held; else 0.
    expected : float
        Mean depth of a tree of as many rows as each tree was grown from.
    depth : int
        Of the deepest leaf.

    References
    ----------
    Liu, Ting, Zhou, "Isolation forest", ICDM 2008.
    """

    encoder: Encoder
    roots: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    right: NDArray[np.int64]
    length: NDArray[np.float64]
    expected: float
    depth: int

    def score(self, rows: Rows) -> Scores:
        """Return 2^(-mean path / expected path), from 0 to 1; see `Scorer`."""
        encoded = self.encoder.encode(rows)
        count = encoded.shape[1]
        scores = np.empty(count, np.float32)
        for start in range(0, count, CHUNK_ROWS):
            end = start + CHUNK_ROWS
            scores[start:end] = self._score(encoded[:, start:end])
        return scores

    def _score(self, encoded: Floats) -> Scores:
        count = encoded.shape[1]
        columns = np.arange(count)
        nodes = np.repeat(self.roots[:, None], count, axis=1)
        for _ in range(self.depth + 1):
            feature = self.feature[nodes]
            inside = feature >= 0
            left = encoded[feature, columns] <= self.threshold[nodes]
            nodes = np.where(inside, np.where(left, nodes + 1, self.right[nodes]), nodes)
        paths = self.length[nodes].sum(axis=0)
        scores: Scores = np.exp2(-paths / (self.roots.size * self.expected)).astype(np.float32)
        return np.where(np.isfinite(encoded).all(axis=0), scores, np.float32("nan"))


def mean_depth(rows: Floats | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean depth of a binary search tree of so many rows (Liu et al., equation 1).

    Examples
    --------
    >>> mean_depth(np.array([1.0, 2.0, 256.0])).round(3).tolist()
    [0.0, 1.0, 10.245]
    """
    many = np.maximum(rows, 3) - 1.0
    depth = 2.0 * (np.log(many) + np.euler_gamma) - 2.0 * many / (many + 1.0)
    return np.where(rows <= 1, 0.0, np.where(rows == 2, 1.0, depth))
