"""Rows of the past, out of a table, judged as the detector would judge them.

Belongs here: a table's columns as windows, their verdicts one after another. Not here: the verdict
itself (`davy.drift`), what is printed.

Every row is one observation. Windows end by their number of rows alone: how old one was when the
next row came, which ends a window of live traffic too, a table does not say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from davy.core.errors import InvalidInputError, NotFoundError
from davy.core.files import nearest
from davy.detector.packages import Subject
from davy.detector.report import verdicts
from davy.drift.distance import FeatureWindow, Values
from davy.drift.judge import Streaks, TestKey, persist
from davy.drift.result import DriftResult
from davy.packaging.contract import Contract, score_output
from davy.protocol.names import SCORE
from davy.protocol.tensors import DTYPES

Moment = datetime | date | int | float
"""What a time column holds."""

Blocks = tuple[FeatureWindow, Values]
"""Columns, and the number of each row's block of time, from 0."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A table's rows, in the order in which they are judged.

    ``columns`` are the features and the score, as windows of live traffic have them; ``times`` is
    None where the rows are taken in the order of the table.
    """

    columns: FeatureWindow
    rows: int
    times: Sequence[Moment] | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """One window: its first and last row (from 1), their times, its verdict, what is active after.

    ``scored`` is the number of rows that have a score.
    """

    first: int
    last: int
    start: Moment | None
    end: Moment | None
    scored: int
    result: DriftResult
    active: tuple[TestKey, ...]


def read_rows(path: Path, contract: Contract, *, time: str = "", score: str = "") -> Rows:
    """Read what a contract names out of a table.

    Parameters
    ----------
    path : Path
        CSV (its name ends with ``.csv``) or Parquet.
    contract : Contract
        Names and types of the features; each value is rounded to its type, as the server's
        tensors are.
    time : str, optional
        Column to order the rows by: timestamps, dates, ISO 8601 texts or numbers.
    score : str, optional
        Column of the score; by default the one named as the contract's output, if there is one.

    Raises
    ------
    NotFoundError
        There is no such file.
    InvalidInputError
        It cannot be read, lacks a column, or holds values of another type; names the column.
    """
    for item in contract.inputs:
        if DTYPES[item.datatype].kind not in "biuf":
            raise InvalidInputError(
                f"is of {item.datatype}, and only numbers are watched",
                where=f"{contract.name} {contract.version}: input '{item.name}'",
            )
    names = [item.name for item in contract.inputs]
    present = _names(path)
    wanted = [*names, *filter(None, (time, score))]
    _check_present(wanted, present, where=str(path))
    usual = (score_output(contract.outputs), SCORE)
    output = score or next((name for name in usual if name in present), "")
    table = _read(path, list(dict.fromkeys([*wanted, *filter(None, (output,))])))
    columns = {
        item.name: _values(table, item.name, item.datatype, where=str(path))
        for item in contract.inputs
    }
    columns[SCORE] = np.full(table.num_rows, math.nan)
    if output:
        scores = _values(table, output, _score_type(contract), where=str(path))
        columns[SCORE] = np.where(np.isfinite(scores), scores, math.nan)
    if not time:
        return Rows(columns, table.num_rows)
    times = _times(table, time, where=f"{path}: column '{time}'")
    order = np.argsort(np.array(times), kind="stable")
    ordered = {name: values[order] for name, values in columns.items()}
    return Rows(ordered, table.num_rows, [times[index] for index in order])


def past_rows(path: Path, contract: Contract, *, block: str, score: str = "") -> Blocks:
    """Return the rows that a package is calibrated on, and the number of each one's block.

    Parameters
    ----------
    path, contract : Path, Contract
        As `read_rows` has them.
    block : str
        Column whose values name the blocks of time: what `read_rows` takes for a time.
    score : str, optional
        Column of the score; without it there is none, whatever the table holds.

    Raises
    ------
    NotFoundError, InvalidInputError
        As `read_rows` does.
    """
    rows = read_rows(path, contract, time=block, score=score)
    columns = dict(rows.columns)
    if not score:
        del columns[SCORE]
    numbers = np.unique(np.array(rows.times), return_inverse=True)[1]
    return columns, numbers.astype(np.int64)


def judge_rows(subject: Subject, rows: Rows, *, where: str) -> list[Judged]:
    """Return the verdict on one window after another, the last of them as full as it is.

    Parameters
    ----------
    subject : Subject
        What is watched.
    rows : Rows
        The rows; see `read_rows`.
    where : str
        Names the rows in an error.

    Raises
    ------
    InvalidInputError
        There are too few rows for a verdict on any window.
    """
    size = subject.rules.window_rows
    needed = math.ceil(subject.rules.minimum_share * size)
    if rows.rows < needed:
        raise InvalidInputError(
            f"holds {rows.rows} rows, and {needed} are needed for a verdict on one window",
            where=where,
            fix=f"A window of {subject.model} {subject.version} has {size} rows; give more",
        )
    streaks: Streaks = {}
    judged: list[Judged] = []
    for begin in range(0, rows.rows, size):
        end = min(begin + size, rows.rows)
        window = {name: values[begin:end] for name, values in rows.columns.items()}
        result = subject.detector.test(window)
        streaks = persist(streaks, result, subject.rules)
        judged.append(
            Judged(
                first=begin + 1,
                last=end,
                start=rows.times[begin] if rows.times else None,
                end=rows.times[end - 1] if rows.times else None,
                scored=int(np.isfinite(window[SCORE]).sum()),
                result=result,
                active=tuple(sorted(key for key, streak in streaks.items() if streak.active)),
            )
        )
    return judged


def document(subject: Subject, judged: Sequence[Judged]) -> dict[str, Any]:
    """Return the verdicts as plain objects, in the form of the detector's ``GET /windows``."""
    return {
        "model": subject.model,
        "version": subject.version,
        "window_rows": subject.rules.window_rows,
        "active": _keys(judged[-1].active) if judged else [],
        "too_coarse": _keys(subject.coarse),
        "windows": [
            {
                "first_row": item.first,
                "last_row": item.last,
                "start": _said(item.start),
                "end": _said(item.end),
                "rows": item.result.rows,
                "scored": item.scored,
                "status": item.result.status,
                "reason": item.result.reason,
                "active": _keys(item.active),
                "features": verdicts(item.result),
            }
            for item in judged
        ],
    }


def _keys(keys: Sequence[TestKey]) -> list[dict[str, str]]:
    return [{"feature": feature, "detector": detector} for feature, detector in keys]


def _said(moment: Moment | None) -> str | int | float | None:
    return moment.isoformat() if isinstance(moment, date) else moment


def _score_type(contract: Contract) -> str:
    """Return the score's type; any that is no floating point is compared as numbers."""
    name = score_output(contract.outputs)
    kinds = [spec.datatype for spec in contract.outputs if spec.name == name]
    return next((kind for kind in kinds if kind.startswith("FP")), "FP64")


def _names(path: Path) -> list[str]:
    """Return the names of a table's columns."""
    if not path.is_file():
        raise NotFoundError("no such file", where=str(path), fix="Name a CSV or Parquet file")
    try:
        if path.suffix.lower() == ".csv":
            with csv.open_csv(path) as reader:
                return list(reader.schema.names)
        return list(pq.read_schema(path).names)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None


def _read(path: Path, names: list[str]) -> pa.Table:
    try:
        if path.suffix.lower() == ".csv":
            options = csv.ConvertOptions(include_columns=names)
            return csv.read_csv(path, convert_options=options)
        return pq.ParquetFile(path).read(columns=names)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> InvalidInputError:
    kind = "CSV" if path.suffix.lower() == ".csv" else "Parquet"
    reason = " ".join(str(error).split())
    return InvalidInputError(
        f"cannot be read as {kind}: {reason}",
        where=str(path),
        fix="A name that ends with .csv is read as CSV, any other as Parquet",
    )


def _check_present(wanted: Sequence[str], present: Sequence[str], *, where: str) -> None:
    lacking = [name for name in dict.fromkeys(wanted) if name not in present]
    if lacking:
        hint = nearest(lacking[0], present) if len(lacking) == 1 else ""
        raise InvalidInputError(
            f"lacks the column{'s' if len(lacking) > 1 else ''} {', '.join(lacking)}{hint}",
            where=where,
            fix="A row needs every feature of the package's contract",
        )
    twice = sorted({name for name in wanted if present.count(name) > 1})
    if twice:
        raise InvalidInputError(f"has the column {twice[0]} more than once", where=where)


def _values(table: pa.Table, name: str, datatype: str, *, where: str) -> Values:
    """Return a column as live traffic has it: int64, or float64 with NaN for missing."""
    column, place = _plain(table, name), f"{where}: column '{name}'"
    kind = column.type
    if not _is_number(kind):
        raise InvalidInputError(
            f"holds {kind}, and the contract says {datatype}",
            where=place,
            fix="Write what the model is sent: numbers, and for a category its number",
        )
    if not datatype.startswith(("INT", "UINT")):
        values = np.asarray(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
        if datatype == "BOOL":
            return values
        with np.errstate(over="ignore"):  # infinite in the model's type, as the server has it
            return values.astype(DTYPES[datatype]).astype(np.float64)
    if column.null_count:
        row = column.is_null().index(True).as_py() + 1
        raise InvalidInputError(
            f"has no value in row {row}, and a category is never missing",
            where=place,
            fix="Give missing values a category of their own, as the training data does",
        )
    limits = np.iinfo(DTYPES[datatype])
    try:
        whole = column.cast(pa.int64())
    except pa.ArrowInvalid:
        raise InvalidInputError(
            f"holds {kind} that are no whole numbers of 64 bits, and the contract says {datatype}",
            where=place,
        ) from None
    found = np.asarray(whole.to_numpy(zero_copy_only=False))
    if found.size and not (limits.min <= found.min() and found.max() <= limits.max):
        raise InvalidInputError(f"holds numbers out of the range of {datatype}", where=place)
    return found


def _plain(table: pa.Table, name: str) -> pa.Array:
    column = table[name].combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # what combine_chunks gives for no rows
        column = pa.array([], column.type)
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _is_number(kind: pa.DataType) -> bool:
    types = pa.types
    checks = (
        types.is_integer,
        types.is_floating,
        types.is_boolean,
        types.is_decimal,
        types.is_null,  # a column without a single value
    )
    return any(check(kind) for check in checks)


def _times(table: pa.Table, name: str, *, where: str) -> list[Any]:
    column = _plain(table, name)
    if column.null_count:
        row = column.is_null().index(True).as_py() + 1
        raise InvalidInputError(f"has no value in row {row}", where=where)
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = _parsed(column, where=where)
    elif pa.types.is_timestamp(kind):
        column = column.cast(pa.timestamp("us", tz="UTC" if kind.tz else None), safe=False)
    elif pa.types.is_floating(kind):
        if not np.isfinite(column.to_numpy(zero_copy_only=False)).all():
            raise InvalidInputError("holds numbers that are not finite", where=where)
    elif not (pa.types.is_date(kind) or pa.types.is_integer(kind)):
        raise InvalidInputError(
            f"holds {kind}, and rows are ordered by timestamps, dates or numbers", where=where
        )
    return list(column.to_pylist())


def _parsed(column: pa.Array, *, where: str) -> pa.Array:
    """Return texts as timestamps: all with an offset from UTC, or all without."""
    for zone in ("UTC", None):
        try:
            return column.cast(pa.timestamp("us", tz=zone))
        except pa.ArrowInvalid:
            continue
    raise InvalidInputError(
        "holds texts that are no timestamps, or some with an offset and some without",
        where=where,
        fix="Write times as 2017-12-01T00:00:00Z",
    )
