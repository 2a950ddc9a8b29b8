"""What a usual row is: the scorer, its threshold, and whether requests can afford it.

Belongs here: from a reference to ``outlier.json`` and the contract's outliers. Not here: the
scorers and the threshold (`davy.outlier`), scoring live rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from davy.core.clock import Clock, SystemClock
from davy.core.errors import InvalidInputError
from davy.core.files import to_json, write_atomic
from davy.data.task import Task
from davy.outlier.document import FILE, OutlierDetector, to_document
from davy.outlier.mahalanobis import fit_mahalanobis
from davy.outlier.threshold import conformal_threshold
from davy.packaging.contract import Interval, Outliers
from davy.training.reference import read_reference
from davy.training.scoring import OUTPUT, open_session
from davy.training.timing import median_interval, side_by_side

Columns = Mapping[str, npt.NDArray[Any]]


def calibrate_outliers(
    task: Task, reference: Path, onnx: Path, out: Path, *, clock: Clock | None = None
) -> Outliers | None:
    """Fit the task's scorer, calibrate its threshold and measure its cost beside the model's.

    A random half of the reference is fitted to, the other gives the threshold. Cost is measured
    at the batch size that the task compresses for, on rows as they are served.

    Parameters
    ----------
    task : Task
        Features, method, false positive rate, batch size, seed.
    reference : Path
        The file that `davy.training.reference.write_reference` wrote.
    onnx : Path
        The model that ships.
    out : Path
        Folder for ``outlier.json``.
    clock : Clock, optional
        What latency is measured with; the machine's own when absent.

    Returns
    -------
    Outliers, optional
        For the contract; None, and no file, when the task's method is "none".

    Raises
    ------
    NotFoundError
        There is no reference.
    InvalidInputError
        It lacks a column, has too few rows for the rate, or the model does not take its rows.
    MissingDependencyError
        The method needs scikit-learn, which is not installed.
    """
    wanted = task.monitoring.outliers
    if wanted.method == "none":
        return None
    columns = read_reference(task, reference)
    rows = {feature.name: columns[feature.name] for feature in task.features}
    detector = fit_detector(task, rows)
    write_atomic(out / FILE, to_json(to_document(detector), indent=None))
    batch = {
        name: np.resize(_served(column), task.compression.batch) for name, column in rows.items()
    }
    session = open_session(onnx)
    times = side_by_side(
        {
            "model": partial(session.run, [OUTPUT], batch),
            "scorer": partial(detector.flags, batch),
        },
        clock or SystemClock(),
    )
    seconds, model_seconds = median_interval(times["scorer"]), median_interval(times["model"])
    cheap, why = affordable(seconds, model_seconds, task.compression.batch)
    return Outliers(
        file=FILE,
        method=wanted.method,
        threshold=detector.threshold.value,
        false_positive_rate=detector.threshold.false_positive_rate,
        rows=detector.threshold.rows,
        batch=task.compression.batch,
        seconds=seconds,
        model_seconds=model_seconds,
        in_request=cheap,
        why=why,
    )


def fit_detector(task: Task, rows: Columns) -> OutlierDetector:
    """Return the task's scorer, fitted to a random half of `rows` and calibrated on the other."""
    wanted = task.monitoring.outliers
    count = len(next(iter(rows.values())))
    order = np.random.default_rng(task.model.seed).permutation(count)
    fitted, held_out = order[: count // 2], order[count // 2 :]
    reference = {name: column[fitted] for name, column in rows.items()}
    calibration = {name: column[held_out] for name, column in rows.items()}
    rate = wanted.false_positive_rate
    try:
        if wanted.method == "isolation_forest":
            from davy.outlier.forest_fit import fit_forest

            forest = fit_forest(reference, seed=task.model.seed)
            return OutlierDetector(forest, conformal_threshold(forest.score(calibration), rate))
        distance = fit_mahalanobis(reference)
        return OutlierDetector(distance, conformal_threshold(distance.score(calibration), rate))
    except InvalidInputError as error:
        raise InvalidInputError(
            f"{error.where}: {error.what}",
            where="monitoring.outliers",
            fix="; or ".join(filter(None, (error.fix, "set the task's method to none"))),
        ) from None


def affordable(seconds: Interval, model_seconds: Interval, batch: int) -> tuple[bool, str]:
    """Decide whether rows are scored in the request, and say why.

    Only when scoring is surely cheaper than the model: the whole interval of its time lies below
    that of the model's.
    """
    took = (
        f"scoring {batch} rows took {seconds.value * 1e6:.0f} µs, "
        f"the model {model_seconds.value * 1e6:.0f} µs"
    )
    if seconds.upper < model_seconds.lower:
        return True, took
    if seconds.lower > model_seconds.upper:
        return False, f"{took}: it must cost less than the model"
    return False, f"{took}: which costs less cannot be told"


def _served(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return column if column.dtype == np.int64 else column.astype(np.float32)
