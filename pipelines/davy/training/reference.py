"""The reference: held-out rows that live traffic is compared with.

Belongs here: which rows, which columns, their scores; reading them back. Not here: what follows
from them (`davy.training.calibrate`).
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from davy.core.errors import InvalidInputError, NotFoundError
from davy.core.files import write_atomic
from davy.data.task import Task
from davy.packaging.package import REFERENCE
from davy.protocol.names import SCORE
from davy.training.examples import Examples, read_examples
from davy.training.scoring import file_scores

# Both are before what is replayed as live traffic, and no weight was fitted to either. But the
# epoch, the score's calibration and the ranges of int8 were chosen on `valid`.
PARTS = ("valid", "test")


def write_reference(task: Task, features: Path, onnx: Path, out: Path) -> Path:
    """Write one candidate row of each held-out request, scored by the model that ships.

    One row a request, drawn at random: rows of one request share the household's features, and
    a hundred of them would count one shopper a hundred times.

    Parameters
    ----------
    task : Task
        Features, segments, seed.
    features : Path
        Folder with ``valid.parquet`` and ``test.parquet``.
    onnx : Path
        The model whose scores are stored.
    out : Path
        Folder for ``reference.parquet``: the features, ``score``, ``label``, ``segment_*`` and
        ``block`` (week); nothing that names a household or a day.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    NotFoundError, InvalidInputError
        A file is missing or does not fit the task, or the model does not take the rows.
    """
    rng = np.random.default_rng(task.model.seed)
    tables = []
    for part in PARTS:
        examples = read_examples(task, features / f"{part}.parquet")
        rows = examples.starts + rng.integers(examples.sizes())
        inputs = {name: column[rows] for name, column in examples.features.items()}
        tables.append(_table(examples, inputs, rows, file_scores(onnx, inputs)))
    buffer = io.BytesIO()
    pq.write_table(pa.concat_tables(tables), buffer, compression="zstd")
    path = out / REFERENCE
    write_atomic(path, buffer.getvalue())
    return path


def read_reference(task: Task, reference: Path) -> dict[str, npt.NDArray[Any]]:
    """Return block, score and features of a reference: float64, or int64 for categories.

    Raises
    ------
    NotFoundError
        There is no such file.
    InvalidInputError
        It is not Parquet, or lacks a column.
    """
    names = [feature.name for feature in task.features]
    if not reference.is_file():
        raise NotFoundError("no such file", where=str(reference), fix="Write the reference first")
    try:
        present = pq.read_schema(reference).names
        lacking = [name for name in ("block", SCORE, *names) if name not in present]
        if lacking:
            raise InvalidInputError(
                f"lacks the columns {', '.join(lacking)}",
                where=str(reference),
                fix="Write the reference again with the same task",
            )
        table = pq.read_table(reference, columns=["block", SCORE, *names])
    except pa.ArrowInvalid as error:
        reason = " ".join(str(error).split())
        raise InvalidInputError(
            f"cannot be read as Parquet: {reason}", where=str(reference)
        ) from None
    whole = {"block", *(f.name for f in task.features if f.type == "category")}
    return {
        name: table[name].to_numpy().astype(np.int64 if name in whole else np.float64)
        for name in table.column_names
    }


def _table(
    examples: Examples,
    inputs: dict[str, npt.NDArray[Any]],
    rows: npt.NDArray[np.int64],
    score: npt.NDArray[np.float32],
) -> pa.Table:
    return pa.table(
        {
            "block": examples.week,
            **inputs,
            "score": score,
            "label": examples.label[rows],
            **{f"segment_{name}": values for name, values in examples.segments.items()},
        }
    )
