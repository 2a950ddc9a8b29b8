"""Tasks over one table: Davy's families and what people would use instead, on the same rows.

Belongs here: fitting both. Not here: comparing them.

Rivals learn from the same rows that Davy's final fit does: all whose label was known when the test
rows begin. They see the columns as they are.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tests.benchmarks.models.compare import Line, Scored, binary_lines

from davy.data.table import Rows, read_table
from davy.data.table_task import TableTask, load_table_task
from davy.features.tables import table_file
from davy.training.tabular import FAMILIES, predict
from davy.training.tabular_fit import matrix, measure_scale
from davy.training.tabular_graph import fitted_model

SEEDS = (1, 2, 3)


def compare_families(path: Path, rule: tuple[str, str], sign: float) -> tuple[list[Line], str]:
    """Fit everything for one task; return the table's lines, and what was learnt from.

    Parameters
    ----------
    path : Path
        The task's file.
    rule : tuple of str
        A column that is a score by itself, and what to call it.
    sign : float
        -1 where a low value speaks for the second class.
    """
    task = load_table_task(path)
    with tempfile.TemporaryDirectory() as folder:
        table = read_table(task, table_file(task, Path(folder)))
        chosen = task.model.family
        fitted = {
            family: [_davy(task, table, family, seed, Path(folder)) for seed in _seeds(family)]
            for family in FAMILIES
        }
    known = _plain(table.train, task), _plain(table.valid, task)
    rows = np.concatenate(known)
    label = np.concatenate([table.train.label, table.valid.label])
    test = _plain(table.test, task)
    column, name = rule
    alone = sign * table.test.features[column].astype(np.float64)
    others = [
        *(Scored(f"Davy {family}", fitted[family]) for family in FAMILIES if family != chosen),
        Scored("logistic regression (scikit-learn)", [_logistic(rows, label, test)]),
        Scored("LightGBM, its defaults", [_lightgbm(rows, label, test, seed) for seed in SEEDS]),
        Scored(name, [np.nan_to_num(alone, nan=alone[np.isfinite(alone)].min())], chance=False),
    ]
    ours = Scored(f"**Davy {chosen}, as the task says**", fitted[chosen])
    lines = binary_lines(table.test.label, table.test.unit, ours, others)
    said = (
        f"{rows.shape[0]:,} rows learnt from, {table.test.count:,} of later days tested"
        f" ({table.test.label.mean():.1%} {task.label.classes[1]});"
        f" {table.not_yet_known:,} left out, as their label was not known yet."
    )
    return lines, said


def _seeds(family: str) -> Sequence[int]:
    # A regression draws nothing.
    return SEEDS[:1] if family == "linear" else SEEDS


def _davy(task: TableTask, table: Any, family: str, seed: int, folder: Path) -> Any:
    """Return what the exported ONNX file gives the test rows."""
    # Members are of successive seeds: those of two fits must not be the same.
    model = task.model.model_copy(update={"family": family, "seed": 100 * seed})
    one = task.model_copy(update={"model": model})
    scale = measure_scale(one, table.train.features)
    rows = matrix(one, scale, table.train.features)
    held = matrix(one, scale, table.valid.features)
    fitted = FAMILIES[family](one, rows, table.train.label, held, table.valid.label)
    path = folder / "model.onnx"
    path.write_bytes(fitted_model(one, scale, fitted).SerializeToString())
    return predict(path, table.test.features)["score"].astype(np.float64)


def _plain(rows: Rows, task: TableTask) -> Any:
    """Return the columns as they are: numbers with gaps, categories one-hot."""
    parts = []
    for feature in task.features:
        values = rows.features[feature.name]
        if feature.type == "category":
            parts += [values == code for code in range(1, len(feature.categories) + 1)]
        else:
            parts.append(values)
    return np.stack([part.astype(np.float64) for part in parts], axis=1)


def _logistic(rows: Any, label: Any, test: Any) -> Any:
    model = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression(max_iter=2000))
    return model.fit(rows, label).predict_proba(test)[:, 1]


def _lightgbm(rows: Any, label: Any, test: Any, seed: int) -> Any:
    import lightgbm

    # Without a subsample the defaults draw nothing, and seeds would not differ.
    model = lightgbm.LGBMClassifier(
        random_state=seed, subsample=0.8, subsample_freq=1, n_jobs=1, verbose=-1
    )
    return model.fit(rows, label).predict_proba(test)[:, 1]
