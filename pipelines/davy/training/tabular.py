"""From a task over one table to a model package.

Belongs here: the order of the steps, the contract's fields. Not here: fitting, measures.
"""

from __future__ import annotations

import importlib.metadata
import json
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from davy.core.clock import Clock
from davy.core.errors import InvalidInputError
from davy.data.table import Columns, Rows, Table, read_table
from davy.data.table_task import TableFeature, TableTask
from davy.features.tables import table_file
from davy.packaging import contract as c
from davy.packaging.package import MODEL, REFERENCE, Package, write_package
from davy.training.calibrate import calibrate_blocks
from davy.training.scoring import open_session
from davy.training.tabular_fit import fit_linear, fit_mlp, matrix, measure_scale
from davy.training.tabular_graph import Dense, Trees, fitted_model
from davy.training.tabular_measures import measure_all
from davy.training.tabular_trees import fit_gbm
from davy.training.timing import median_interval, side_by_side

BLOCKS = 8
BATCH = 64
# The smallest probability of class 1 that is called so in accuracy, precision, recall and F1.
THRESHOLD = 0.5
LIBRARIES = {"linear": "scikit-learn", "mlp": "torch", "gbm": "lightgbm"}
FAMILIES: Mapping[str, Callable[..., Dense | Trees]] = {
    "linear": fit_linear,
    "mlp": fit_mlp,
    "gbm": fit_gbm,
}

Outputs = Mapping[str, npt.NDArray[Any]]


def train_table(
    task: TableTask, store: Path, *, clock: Clock, code_version: str
) -> tuple[Package, Table]:
    """Fit, measure and package a model of one table.

    Parameters
    ----------
    task : TableTask
        With the absolute address of its table.
    store : Path
        Where the package goes.
    clock : Clock
        The day of the package, and its latency.
    code_version : str
        Names the code, for the contract.

    Returns
    -------
    Package, Table
        The verified package, and what was read.

    Raises
    ------
    NotFoundError, InvalidInputError
        As `davy.data.table.read_table`; or the model is below ``objective.floor``.
    """
    with tempfile.TemporaryDirectory() as folder:
        table = read_table(task, table_file(task, Path(folder)))
    scale = measure_scale(task, table.train.features)
    rows = matrix(task, scale, table.train.features)
    held = matrix(task, scale, table.valid.features)
    fit = FAMILIES[task.model.family]
    fitted = fit(task, rows, table.train.label, held, table.valid.label)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        model = work / MODEL
        graph = fitted_model(task, scale, fitted)
        model.write_bytes(graph.SerializeToString(deterministic=True))
        outputs = predict(model, table.test.features)
        metrics = _measure(task, table.test, outputs)
        objective = metrics.get(task.objective.metric)
        if objective is None:
            raise InvalidInputError(
                f"{task.objective.metric} cannot be measured on {table.test.count} test rows",
                where=task.data.source,
                fix="Give split.test a larger share",
            )
        if objective.overall.value < task.objective.floor:
            raise InvalidInputError(
                f"{task.objective.metric} is {objective.overall.value:.4g}, below the floor"
                f" {task.objective.floor:g}: nothing is packaged",
                where=task.name,
                fix="Try another model.family or features, or lower objective.floor",
            )
        files = _evidence(task, table, work)
        calibration = _reference(task, table.test, outputs, work / REFERENCE)
        draft = _contract(task, table, metrics, calibration, clock, code_version, model)
        files |= {MODEL: model, REFERENCE: work / REFERENCE}
        return write_package(store, draft, files, private_key=None), table


def predict(model: Path, features: Columns) -> dict[str, npt.NDArray[Any]]:
    """Return every output of a model's file by its name."""
    session = open_session(model)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(features)), strict=True))


def _measure(
    task: TableTask, rows: Rows, outputs: Outputs, only: str | None = None
) -> dict[str, c.Metric]:
    score = outputs["score"].astype(np.float64)
    predicted = score
    if task.form == "binary":
        predicted = (score >= THRESHOLD).astype(np.float64)
    elif task.form == "multiclass":
        predicted = outputs["predicted"].astype(np.float64)
    segments = {
        f"{cut.name}={text}": rows.segments[cut.name] == code
        for cut in task.cuts
        for code, text in enumerate(("(other)", *cut.categories))
    }
    return measure_all(
        task.form,
        rows.label,
        score,
        predicted,
        rows.unit,
        segments,
        seed=task.model.seed,
        only=only,
    )


def _baseline(task: TableTask, table: Table) -> dict[str, c.Metric]:
    """Return the objective of always answering what the training rows say on average."""
    label = table.train.label
    if task.form == "multiclass":
        usual = float(np.bincount(label.astype(int)).argmax())
        outputs = {
            "score": np.ones(table.test.count),
            "predicted": np.full(table.test.count, usual),
        }
    else:
        outputs = {"score": np.full(table.test.count, label.mean())}
    # Of all measures, one is asked for: each takes as long as it took the model's.
    found = _measure(task, table.test, outputs, task.objective.metric)
    return {"constant": next(iter(found.values()))} if found else {}


def _reference(task: TableTask, rows: Rows, outputs: Outputs, path: Path) -> c.Calibration:
    """Write the test rows with their scores, and measure their blocks against each other."""
    block = np.arange(rows.count) * min(BLOCKS, rows.count) // rows.count
    score = outputs["score"]
    segments = {f"segment_{name}": codes for name, codes in rows.segments.items()}
    columns = {"block": block, **rows.features, "score": score, "label": rows.label, **segments}
    pq.write_table(pa.table(columns), path, compression="zstd")
    watched = {
        name: values.astype(np.int64 if values.dtype == np.int64 else np.float64)
        for name, values in {**rows.features, "score": score}.items()
    }
    return calibrate_blocks(watched, block, monitoring=task.monitoring, seed=task.model.seed)


def _evidence(task: TableTask, table: Table, work: Path) -> dict[str, Path]:
    documents = {
        "categories": {
            **{f.name: ["", *f.categories] for f in task.features if f.type == "category"},
            **{cut.name: ["", *cut.categories] for cut in task.cuts},
            **({"label": list(task.label.classes)} if task.label.classes else {}),
        },
        "quality": {
            "set_aside": table.reasons(),
            "rows_set_aside": [list(item) for item in table.set_aside],
            "values_that_are_no_numbers": table.unreadable,
            "labels_not_known_when_the_test_begins": table.not_yet_known,
            "rows": {p: getattr(table, p).count for p in ("train", "valid", "test")},
        },
    }
    files = {}
    for name, document in documents.items():
        path = work / f"{name}.json"
        path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        files[f"evidence/{name}.json"] = path
    return files


def _contract(
    task: TableTask,
    table: Table,
    metrics: Mapping[str, c.Metric],
    calibration: c.Calibration,
    clock: Clock,
    code_version: str,
    model: Path,
) -> c.Contract:
    session = open_session(model)
    batch = {name: np.resize(v, BATCH) for name, v in table.test.features.items()}
    times = side_by_side({"fp32": partial(session.run, ["score"], batch)}, clock)
    first = metrics[task.objective.metric]
    only = c.CompressionCandidate(
        name="fp32",
        bytes=model.stat().st_size,
        batch=BATCH,
        latency_seconds=median_interval(times["fp32"]),
        quality=first.overall,
        eligible=True,
        reason="the model as it was fitted",
    )
    return c.Contract(
        name=task.name,
        version="",
        task=task.name,
        kind=task.kind,
        quantization="fp32",
        created=clock.now(),
        inputs=[_input(feature) for feature in task.features],
        outputs=_outputs(task),
        training=c.Training(
            data_fingerprint=table.fingerprint,
            rows=table.train.count,
            start=table.start,
            end=table.end,
            code_version=code_version,
            seed=task.model.seed,
            libraries={
                name: importlib.metadata.version(name)
                for name in ("numpy", "onnx", LIBRARIES[task.model.family])
            },
        ),
        metrics=[first, *(m for name, m in metrics.items() if name != task.objective.metric)],
        baselines=_baseline(task, table),
        compression=c.Compression(
            budget=0.0,
            prefer="size",
            candidates=[only],
            chosen="fp32",
            why="no other candidate was tried",
        ),
        calibration=calibration,
        rollout=c.RolloutDefaults(
            latency_objective_seconds=task.rollout.latency_objective_seconds,
            indicators=[c.GateDefault(**item.model_dump()) for item in task.rollout.indicators],
        ),
        privacy=c.Privacy(),
        lineage=c.Lineage(),
        segments=[cut.name for cut in task.cuts],
    )


def _input(feature: TableFeature) -> c.TensorSpec:
    if feature.type == "category":
        codes = c.Range(low=0, high=len(feature.categories))
        return c.TensorSpec(
            name=feature.name, datatype="INT64", range=codes, policy=feature.policy, unit="code"
        )
    allowed = feature.range
    return c.TensorSpec(
        name=feature.name,
        datatype="FP32",
        unit=feature.unit,
        range=c.Range(low=allowed.low, high=allowed.high) if allowed else None,
        policy=feature.policy,
        missing=feature.missing,
    )


def _outputs(task: TableTask) -> list[c.TensorSpec]:
    if task.form == "regression":
        return [c.TensorSpec(name="score", datatype="FP32")]
    chance = c.Range(low=0, high=1)
    outputs = [c.TensorSpec(name="score", datatype="FP32", range=chance)]
    if task.form == "multiclass":
        classes = len(task.label.classes)
        last = c.Range(low=0, high=classes - 1)
        outputs += [
            c.TensorSpec(name="predicted", datatype="INT64", range=last),
            c.TensorSpec(name="probabilities", datatype="FP32", shape=[-1, classes], range=chance),
        ]
    return outputs
