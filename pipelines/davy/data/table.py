"""From a CSV or Parquet file to the columns that a task asks for.

Belongs here: reading, parsing, codes of categories, quarantine, the split.
Not here: guessing a task from a table (`davy.data.table_draft`), models.

A row that cannot be used is set aside with its number and the reason; it is never dropped in
silence. Reasons hold no values, so they may travel with a model.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from davy.core.errors import InvalidInputError, NotFoundError
from davy.core.files import nearest
from davy.data.table_task import SUFFIXES, TableFeature, TableSegment, TableTask, table_path

# More than this of the rows set aside says that the task does not describe the table.
MOST_SET_ASIDE = 0.2
FEWEST_ROWS = 50
_MISSING = ("", "na", "n/a", "nan", "null", "none", "?", "-")

Columns = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one part, in the order of time.

    Attributes
    ----------
    features : mapping of str to array of shape [rows]
        float32 with NaN for missing, or int64 codes of a category.
    label : array of shape [rows]
        float64; the index of the class for classification.
    unit : array of shape [rows]
        Number of the entity behind each row: rows of one are not independent.
    segments : mapping of str to array of shape [rows]
        int64 codes of what rows are measured by.
    """

    features: Columns
    label: npt.NDArray[np.float64]
    unit: npt.NDArray[np.int64]
    segments: Columns = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of rows."""
        return int(self.label.size)


@dataclass(frozen=True, slots=True)
class Table:
    """A table as a task sees it: its parts, what was set aside, and of which data.

    ``not_yet_known`` counts the rows before the test rows whose label came after these began.
    """

    train: Rows
    valid: Rows
    test: Rows
    set_aside: tuple[tuple[int, str], ...]
    unreadable: dict[str, int]
    fingerprint: str
    start: datetime
    end: datetime
    not_yet_known: int = 0

    def reasons(self) -> dict[str, int]:
        """Return how many rows were set aside for each reason."""
        return dict(Counter(reason for _, reason in self.set_aside))


def read_frame(path: Path) -> pd.DataFrame:
    """Read a file whole; every value of a CSV stays text.

    Raises
    ------
    NotFoundError
        There is no such file.
    InvalidInputError
        It is neither CSV nor Parquet, cannot be parsed, or names a column twice.
    """
    if not path.is_file():
        raise NotFoundError("no such table", where=str(path))
    if path.suffix not in SUFFIXES:
        raise InvalidInputError(
            f"a table is {' or '.join(SUFFIXES)}, not '{path.suffix}'", where=str(path)
        )
    try:
        if path.suffix == ".csv":
            head = pd.read_csv(path, dtype=str, header=None, nrows=1, keep_default_na=False)
            names = [str(name) for name in head.iloc[0]]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise InvalidInputError(f"names the column '{twice[0]}' twice", where=str(path))
            frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        else:
            frame = pd.read_parquet(path)
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InvalidInputError(f"cannot be read: {reason}", where=str(path)) from None
    if frame.empty:
        raise InvalidInputError("has no rows", where=str(path))
    return frame


def as_text(column: Any) -> npt.NDArray[Any]:
    """Return values as stripped text, None for missing ones."""
    found = np.empty(len(column), dtype=object)
    for place, value in enumerate(column):
        text = None if value is None or value is pd.NaT or value != value else str(value).strip()  # noqa: PLR0124
        if isinstance(value, float) and text is not None and value.is_integer():
            text = str(int(value))
        found[place] = None if text is None or text.lower() in _MISSING else text
    return found


def as_numbers(column: Any) -> tuple[npt.NDArray[np.float64], int]:
    """Return float64 with NaN for missing, and how many values were there but are no numbers."""
    if isinstance(getattr(column, "dtype", None), np.dtype) and column.dtype.kind in "iuf":
        plain = np.array(column, dtype=np.float64)
        endless = np.isinf(plain)
        plain[endless] = np.nan
        return plain, int(endless.sum())
    text = as_text(column)
    numbers = pd.to_numeric(pd.Series(text, dtype=object), errors="coerce")
    values = numbers.to_numpy(dtype=np.float64, na_value=np.nan).copy()
    values[~np.isfinite(values)] = np.nan
    present = np.array([value is not None for value in text])
    return values, int((present & np.isnan(values)).sum())


def as_times(column: Any) -> npt.NDArray[np.float64]:
    """Return seconds since 1970 in UTC, NaN where there is no time."""
    times = pd.to_datetime(pd.Series(as_text(column)), utc=True, errors="coerce", format="mixed")
    seconds = (times - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
    return np.asarray(seconds, dtype=np.float64)


def check_columns(task: TableTask, names: list[str]) -> None:
    """Compare what a task asks for with the columns of its table.

    Raises
    ------
    InvalidInputError
        Names what is not there and its nearest match.
    """
    wanted = {f"features.{f.name}": f.source for f in task.features}
    wanted["label.name"] = task.label.name
    wanted |= {f"segments.{cut.name}": cut.source for cut in task.cuts}
    others = (("entity", task.entity), ("time", task.time), ("label.known_at", task.label.known_at))
    wanted |= {place: name for place, name in others if name is not None}
    problems = [
        f"{place}: no column '{name}'{nearest(name, names)}"
        for place, name in wanted.items()
        if name not in names
    ]
    if problems:
        raise InvalidInputError(
            "; ".join(problems), where=task.data.source, fix="Correct the task, or the table"
        )


def read_table(task: TableTask, path: Path | None = None) -> Table:
    """Read a task's table into its parts.

    Parameters
    ----------
    task : TableTask
        The task.
    path : Path, optional
        The table's file, where ``data.source`` is not the file itself.

    Raises
    ------
    NotFoundError
        There is no such file.
    InvalidInputError
        A column is not there, too many rows cannot be used, or a part lacks a class.
    """
    path = path or table_path(task)
    frame = read_frame(path)
    check_columns(task, [str(name) for name in frame.columns])
    reasons: list[str | None] = [None] * len(frame)
    label = _label(task, frame[task.label.name], reasons)
    unreadable: dict[str, int] = {}
    columns = {f.name: _column(f, frame[f.source], reasons, unreadable) for f in task.features}
    cuts = {cut.name: encode(cut, frame[cut.source]) for cut in task.cuts}
    seconds, known = _times(task, frame, reasons)
    kept = np.array([reason is None for reason in reasons])
    _check_kept(kept, reasons, task)
    order = np.flatnonzero(kept)
    order = order[np.argsort(seconds[order], kind="stable")]
    units = np.arange(len(frame))
    if task.entity is not None:
        texts = ["" if text is None else text for text in as_text(frame[task.entity])]
        units = np.unique(np.asarray(texts, dtype=str), return_inverse=True)[1]
    parts = _parts(task, order, seconds, units)
    late = 0
    if task.time is not None and parts["test"].size:
        begins = seconds[parts["test"]].min()
        for name in ("train", "valid"):
            early = parts[name][known[parts[name]] <= begins]
            late += parts[name].size - early.size
            parts[name] = early
    rows = {
        name: Rows(
            {key: values[at] for key, values in columns.items()},
            label[at],
            units[at],
            {key: codes[at] for key, codes in cuts.items()},
        )
        for name, at in parts.items()
    }
    _check_parts(task, rows)
    trained = seconds[parts["train"]]
    day = datetime.fromtimestamp(path.stat().st_mtime, UTC).replace(microsecond=0)
    span = (day, day)
    if task.time is not None:
        span = (
            datetime.fromtimestamp(float(trained.min()), UTC),
            datetime.fromtimestamp(float(trained.max()), UTC),
        )
    return Table(
        train=rows["train"],
        valid=rows["valid"],
        test=rows["test"],
        set_aside=tuple((i + 1, reason) for i, reason in enumerate(reasons) if reason is not None),
        unreadable=unreadable,
        fingerprint=hashlib.sha256(path.read_bytes()).hexdigest(),
        start=span[0],
        end=span[1],
        not_yet_known=late,
    )


def encode(feature: TableFeature | TableSegment, column: Any) -> npt.NDArray[np.int64]:
    """Return the codes of a category: 0 where missing or unknown."""
    codes = {name: code for code, name in enumerate(feature.categories, start=1)}
    return np.array([codes.get(text, 0) for text in as_text(column)], dtype=np.int64)


def _column(
    feature: TableFeature, column: Any, reasons: list[str | None], unreadable: dict[str, int]
) -> npt.NDArray[Any]:
    if feature.type == "category":
        if feature.missing == "reject":
            gone = np.array([text is None for text in as_text(column)])
            _set_aside(reasons, gone, f"{feature.name}: missing")
        return encode(feature, column)
    values, wrong = as_numbers(column)
    if wrong:
        unreadable[feature.name] = wrong
    if feature.missing == "reject":
        _set_aside(reasons, np.isnan(values), f"{feature.name}: missing or not a number")
    if feature.range is not None:
        outside = (values < feature.range.low) | (values > feature.range.high)
        if feature.policy == "reject":
            _set_aside(reasons, outside, f"{feature.name}: out of range")
        elif feature.policy == "clip":
            values = np.clip(values, feature.range.low, feature.range.high)
    narrow = np.finfo(np.float32)
    single: npt.NDArray[np.float32] = np.clip(values, narrow.min, narrow.max).astype(np.float32)
    return single


def _times(
    task: TableTask, frame: pd.DataFrame, reasons: list[str | None]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return when each row is, and when its label is known, in seconds."""
    seconds = np.zeros(len(frame))
    if task.time is None:
        return seconds, seconds
    seconds = as_times(frame[task.time])
    _set_aside(reasons, np.isnan(seconds), f"{task.time}: no time")
    known = seconds + task.label.delay_days * 86400.0
    if task.label.known_at is not None:
        known = as_times(frame[task.label.known_at])
        _set_aside(reasons, np.isnan(known), f"{task.label.known_at}: no time")
    return seconds, known


def _label(task: TableTask, column: Any, reasons: list[str | None]) -> npt.NDArray[np.float64]:
    name = task.label.name
    if task.kind == "regression":
        values, _ = as_numbers(column)
        _set_aside(reasons, np.isnan(values), f"{name}: no number to learn from")
        return values
    codes = {text: float(code) for code, text in enumerate(task.label.classes)}
    text = as_text(column)
    _set_aside(reasons, np.array([value is None for value in text]), f"{name}: no label")
    unknown = np.array([value is not None and value not in codes for value in text])
    _set_aside(reasons, unknown, f"{name}: none of label.classes")
    return np.array([codes.get(value, -1.0) for value in text])


def _set_aside(reasons: list[str | None], bad: npt.NDArray[np.bool_], reason: str) -> None:
    for place in np.flatnonzero(bad):
        reasons[place] = reasons[place] or reason


def _check_kept(kept: npt.NDArray[np.bool_], reasons: list[str | None], task: TableTask) -> None:
    found = Counter(reason for reason in reasons if reason is not None)
    if (~kept).mean() > MOST_SET_ASIDE:
        listed = "; ".join(f"{count} rows: {reason}" for reason, count in found.most_common(5))
        raise InvalidInputError(
            f"{(~kept).mean():.0%} of the rows cannot be used ({listed})",
            where=task.data.source,
            fix="Correct the table, or the task's classes, ranges and missing policies",
        )
    if kept.sum() < FEWEST_ROWS:
        raise InvalidInputError(
            f"{int(kept.sum())} rows can be used, and {FEWEST_ROWS} are needed",
            where=task.data.source,
        )


def _parts(
    task: TableTask,
    order: npt.NDArray[np.int64],
    seconds: npt.NDArray[np.float64],
    units: npt.NDArray[np.int64],
) -> dict[str, npt.NDArray[np.int64]]:
    """Return the rows of each part: by time where there is one, else whole entities at random."""
    ends = (task.split.train, task.split.train + task.split.valid)
    if task.time is not None:
        place = seconds[order]
        first, second = np.quantile(place, ends, method="inverted_cdf")
        # Rows of one moment stay together, so that no part knows another's time.
        part = np.where(place <= first, 0, np.where(place <= second, 1, 2))
    else:
        draw = np.random.default_rng(task.model.seed).random(int(units.max()) + 1)
        part = np.searchsorted(ends, draw[units[order]], side="right")
    return {name: order[part == index] for index, name in enumerate(("train", "valid", "test"))}


def _check_parts(task: TableTask, parts: dict[str, Rows]) -> None:
    for name, rows in parts.items():
        if rows.count < 2:
            raise InvalidInputError(
                f"the part {name} has {rows.count} rows",
                where="split",
                fix="Give it a larger share; with a label's delay the part before the test loses"
                " its latest rows",
            )
        if task.form == "regression":
            continue
        seen = set(rows.label.astype(int).tolist())
        lacking = [text for code, text in enumerate(task.label.classes) if code not in seen]
        if lacking and (task.form == "binary" or name == "train"):
            raise InvalidInputError(
                f"the part {name} holds no row of class '{lacking[0]}'",
                where="split",
                fix="Give it a larger share, another model.seed, or more data",
            )
