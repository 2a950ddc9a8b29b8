"""Growing an isolation forest with scikit-learn, where the model is trained.

Belongs here: fitting, and turning scikit-learn's trees into arrays. Not here: scoring.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from davy.core.errors import InvalidInputError, MissingDependencyError
from davy.outlier.encode import Encoder, fit_encoder
from davy.outlier.interface import Rows
from davy.outlier.isolation_forest import IsolationForest, mean_depth

TREES = 100


def fit_forest(reference: Rows, *, seed: int = 0, trees: int = TREES) -> IsolationForest:
    """Fit to reference rows, 256 of them a tree.

    Raises
    ------
    MissingDependencyError
        scikit-learn is not installed.
    InvalidInputError
        No feature varies, or there are fewer than two rows.
    """
    try:
        from sklearn.ensemble import IsolationForest as Grown
    except ImportError as error:
        raise MissingDependencyError(
            f"scikit-learn cannot be imported ({error})",
            where="outlier method 'isolation_forest'",
            fix="Install davylamp[train], or use the method 'mahalanobis'",
        ) from None
    encoder = fit_encoder(reference)
    encoded = encoder.encode(reference).T
    if len(encoded) < 2:
        raise InvalidInputError("has fewer than two rows", where="outlier reference")
    return as_arrays(encoder, Grown(n_estimators=trees, random_state=seed).fit(encoded))


def as_arrays(encoder: Encoder, forest: Any) -> IsolationForest:
    """Return a fitted scikit-learn forest over `encoder`'s columns as arrays."""
    roots, features, thresholds, rights, lengths = [], [], [], [], []
    start, deepest = 0, 0
    for estimator, columns in zip(forest.estimators_, forest.estimators_features_, strict=True):
        tree = estimator.tree_
        leaf = tree.children_left < 0
        depths = _depths(tree.children_left, tree.children_right)
        roots.append(start)
        features.append(np.where(leaf, -1, columns[np.maximum(tree.feature, 0)]))
        thresholds.append(np.where(leaf, 0.0, tree.threshold))
        rights.append(np.where(leaf, 0, tree.children_right + start))
        held = mean_depth(tree.n_node_samples.astype(np.float64))
        lengths.append(np.where(leaf, depths + held, 0.0))
        start += tree.node_count
        deepest = max(deepest, int(depths.max()))
    return IsolationForest(
        encoder=encoder,
        roots=np.array(roots, np.int64),
        feature=np.concatenate(features).astype(np.int64),
        threshold=np.concatenate(thresholds),
        right=np.concatenate(rights).astype(np.int64),
        length=np.concatenate(lengths),
        expected=float(mean_depth(np.array([forest.max_samples_], np.float64))[0]),
        depth=deepest,
    )


def _depths(left: Any, right: Any) -> Any:
    depths = np.zeros(left.size, np.int64)
    for node in range(left.size):
        if left[node] >= 0:
            # Depth first: what is scored relies on the left child being the next node.
            if left[node] != node + 1:
                raise InvalidInputError("is not in depth-first order", where="isolation forest")
            depths[left[node]] = depths[right[node]] = depths[node] + 1
    return depths
