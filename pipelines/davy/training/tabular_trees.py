"""Fitting gradient-boosted trees to the matrix of a table, with LightGBM.

Belongs here: the fit, LightGBM's trees as arrays. Not here: their ONNX node
(`davy.training.tabular_graph`), the matrix.

The trees are exported here rather than by a converter, as the matrix is float32 and LightGBM
splits at float64: the largest float32 below a threshold keeps every row on its side, where the
nearest one would not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from davy.data.table_task import TableTask
from davy.training.tabular_graph import Floats, Trees

LEARNING_RATE = 0.05
# Rounds without a better loss on the held-out part before the search for their number ends.
PATIENCE = 50
# A leaf holds a share of the rows, so that small tables get trees and large ones do not get noise.
LEAF_SHARE = 0.01
SMALLEST_LEAF, LARGEST_LEAF = 5, 200


def fit_gbm(task: TableTask, rows: Floats, label: Floats, held: Floats, truth: Floats) -> Trees:
    """Return boosted trees; seeded, on one thread.

    The held-out part tells how many; then as many are fitted to both parts, as the latest rows
    tell most about the next.

    Raises
    ------
    MissingDependencyError
        LightGBM is not installed.
    """
    center, spread = 0.0, 1.0
    if task.form == "regression":
        center, spread = float(label.mean()), float(label.std()) or 1.0
    label, truth = (label - center) / spread, (truth - center) / spread
    members = [
        _booster(task, task.model.seed + member, rows, label, held, truth)
        for member in range(task.model.members)
    ]
    return exported(members, center, spread)


def _booster(
    task: TableTask, seed: int, rows: Floats, label: Floats, held: Floats, truth: Floats
) -> Any:
    lightgbm = _lightgbm()
    settings = _settings(task, seed, len(label))
    given = lightgbm.Dataset(rows, label, params=settings)
    tried = lightgbm.train(
        settings,
        given,
        num_boost_round=task.model.trees,
        valid_sets=[lightgbm.Dataset(held, truth, reference=given)],
        callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
    )
    both = lightgbm.Dataset(
        np.concatenate([rows, held]), np.concatenate([label, truth]), params=settings
    )
    return lightgbm.train(settings, both, num_boost_round=max(1, tried.best_iteration))


def exported(boosters: Sequence[Any], center: float = 0.0, spread: float = 1.0) -> Trees:
    """Return the mean of LightGBM boosters as arrays of trees.

    Parameters
    ----------
    boosters : sequence of lightgbm.Booster
        Of numeric columns in which nothing is missing; all of one kind.
    center, spread : float
        What unscales its sums.
    """
    nodes: list[tuple[Any, ...]] = []
    leaves: list[tuple[Any, ...]] = []
    outputs = boosters[0].num_model_per_iteration()
    trees = [tree for booster in boosters for tree in booster.dump_model()["tree_info"]]
    for index, tree in enumerate(trees):
        target = tree["tree_index"] % outputs
        for place, node, low, high in _walk(tree["tree_structure"]):
            if "split_feature" not in node:
                nodes.append((index, place, 0, 0.0, "LEAF", 0, 0))
                leaves.append((index, place, target, node["leaf_value"] / len(boosters)))
                continue
            threshold = _below(node["threshold"])
            nodes.append((index, place, node["split_feature"], threshold, "BRANCH_LEQ", low, high))
    return Trees(tuple(nodes), tuple(leaves), outputs, center, spread)


def _walk(root: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any], int, int]]:
    """Yield every node with its number and those of its children, numbered as they are met."""
    waiting, given = [(0, root)], 1
    while waiting:
        place, node = waiting.pop()
        if "split_feature" not in node:
            yield place, node, 0, 0
            continue
        low, high, given = given, given + 1, given + 2
        waiting += [(low, node["left_child"]), (high, node["right_child"])]
        yield place, node, low, high


def _below(threshold: float) -> float:
    """Return the largest float32 that is at most `threshold`."""
    near = np.float32(threshold)
    return float(near if float(near) <= threshold else np.nextafter(near, np.float32(-np.inf)))


def _settings(task: TableTask, seed: int, rows: int) -> dict[str, Any]:
    kind = {"binary": "binary", "multiclass": "multiclass", "regression": "l2"}[task.form]
    classes = {"num_class": len(task.label.classes)} if task.form == "multiclass" else {}
    return {
        "objective": kind,
        **classes,
        "learning_rate": task.model.learning_rate or LEARNING_RATE,
        "num_leaves": task.model.leaves,
        "min_data_in_leaf": int(np.clip(rows * LEAF_SHARE, SMALLEST_LEAF, LARGEST_LEAF)),
        "lambda_l2": 10.0,
        "feature_fraction": 0.5,
        "bagging_fraction": 0.7,
        "bagging_freq": 1,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
    }


def _lightgbm() -> Any:
    try:
        import lightgbm
    except ModuleNotFoundError:
        from davy.core.errors import MissingDependencyError

        raise MissingDependencyError(
            "the package lightgbm is not installed",
            where="model.family 'gbm'",
            fix="Install davylamp[train]",
        ) from None
    return lightgbm
