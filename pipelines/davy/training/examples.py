"""The feature files of one part as arrays, checked against the task.

Belongs here: reading `davy.features.build`'s rows into arrays by request, and taking some of the
requests. Not here: how features are computed, or tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from davy.core.errors import InvalidInputError, NotFoundError
from davy.data.task import Task

Array = npt.NDArray[Any]

BASELINES = ("popularity", "personal")


@dataclass(frozen=True, slots=True)
class Examples:
    """Rows (request, candidate) of one part; rows of a request are contiguous.

    Attributes
    ----------
    features : mapping of name to array of shape [rows]
        In the order of the task; int64 for categories, float32 with NaN for numbers.
    label : int8 array of shape [rows]
        1 where the candidate was bought.
    baselines : mapping of name to float32 array of shape [rows]
        Scores of the baselines ``popularity`` and ``personal``.
    starts : int64 array of shape [requests]
        First row of each request.
    request, household : arrays of str of shape [requests]
        Ids.
    week, basket_size : int64 arrays of shape [requests]
        Week of the basket, and how many different products it held.
    segments : mapping of name to array of str of shape [requests]
        Value of each of the task's segments.
    time : datetime64[us] array of shape [requests]
        When the basket was bought.
    """

    features: Mapping[str, Array]
    label: npt.NDArray[np.int8]
    baselines: Mapping[str, npt.NDArray[np.float32]]
    starts: npt.NDArray[np.int64]
    request: Array
    household: Array
    week: npt.NDArray[np.int64]
    basket_size: npt.NDArray[np.int64]
    segments: Mapping[str, Array]
    time: npt.NDArray[np.datetime64]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.label.size)

    @property
    def requests(self) -> int:
        """Number of requests."""
        return int(self.starts.size)

    @property
    def start(self) -> datetime:
        """Time of the first basket, in UTC."""
        return _instant(self.time.min())

    @property
    def end(self) -> datetime:
        """Time of the last basket, in UTC."""
        return _instant(self.time.max())

    def sizes(self) -> npt.NDArray[np.int64]:
        """Return the number of candidates of each request."""
        return np.diff(np.append(self.starts, self.rows))

    def groups(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Return ``segment name=value`` to which requests are in it."""
        return {
            f"{name}={value}": values == value
            for name, values in self.segments.items()
            for value in np.unique(values)
        }

    def sample(self, requests: int, rng: np.random.Generator) -> Examples:
        """Return at most `requests` requests, drawn without replacement, in their order."""
        if requests >= self.requests:
            return self
        return self.take(np.sort(rng.choice(self.requests, size=requests, replace=False)))

    def take(self, chosen: npt.NDArray[np.int64]) -> Examples:
        """Return the requests with the indices `chosen`, in that order."""
        sizes = self.sizes()[chosen]
        starts = np.cumsum(sizes) - sizes
        rows = np.arange(int(sizes.sum())) + np.repeat(self.starts[chosen] - starts, sizes)
        return Examples(
            features={name: column[rows] for name, column in self.features.items()},
            label=self.label[rows],
            baselines={name: column[rows] for name, column in self.baselines.items()},
            starts=starts,
            request=self.request[chosen],
            household=self.household[chosen],
            week=self.week[chosen],
            basket_size=self.basket_size[chosen],
            segments={name: values[chosen] for name, values in self.segments.items()},
            time=self.time[chosen],
        )


def read_examples(task: Task, path: Path) -> Examples:
    """Read one part's feature file.

    Parameters
    ----------
    task : Task
        Says which columns there must be.
    path : Path
        A Parquet file that `davy.features.build` wrote.

    Raises
    ------
    NotFoundError
        There is no such file.
    InvalidInputError
        It is not Parquet, has no rows, lacks a column, has one of another type, or the rows of a
        request are not contiguous.
    """
    types = {
        feature.name: np.dtype(np.int64 if feature.type == "category" else np.float32)
        for feature in task.features
    }
    segments = {name: f"segment_{name}" for name in task.segments}
    baselines = {name: f"baseline_{name}" for name in BASELINES}
    table = _read(
        path,
        [
            "request_id", "household_id", "time", "week", "label", "basket_size",
            *types, *segments.values(), *baselines.values(),
        ],
    )  # fmt: skip
    starts = _request_starts(table["request_id"], path)
    firsts = table.take(pa.array(starts))
    time = firsts["time"].combine_chunks().cast(pa.timestamp("us")).to_numpy(zero_copy_only=False)
    return Examples(
        features={name: _column(table, name, dtype, path) for name, dtype in types.items()},
        label=_column(table, "label", np.dtype(np.int8), path),
        baselines={
            name: _column(table, column, np.dtype(np.float32), path)
            for name, column in baselines.items()
        },
        starts=starts,
        request=_strings(firsts, "request_id"),
        household=_strings(firsts, "household_id"),
        week=_column(firsts, "week", np.dtype(np.int64), path),
        basket_size=_column(firsts, "basket_size", np.dtype(np.int64), path),
        segments={name: _strings(firsts, column) for name, column in segments.items()},
        time=time,
    )


def _read(path: Path, columns: list[str]) -> Any:
    fix = "Build the features again with the same task"
    if not path.is_file():
        raise NotFoundError("no such file", where=str(path), fix="Build the features first")
    try:
        present = set(pq.read_schema(path).names)
        lacking = [name for name in columns if name not in present]
        if lacking:
            raise InvalidInputError(
                f"lacks the columns {', '.join(lacking)}", where=str(path), fix=fix
            )
        table = pq.read_table(path, columns=columns)
    except (pa.ArrowInvalid, OSError) as error:
        reason = " ".join(str(error).split())
        raise InvalidInputError(
            f"cannot be read as Parquet: {reason}", where=str(path), fix=fix
        ) from None
    if table.num_rows == 0:
        raise InvalidInputError("has no rows", where=str(path), fix="Keep more households")
    return table


def _request_starts(column: Any, path: Path) -> npt.NDArray[np.int64]:
    codes = column.combine_chunks().dictionary_encode().indices.to_numpy()
    starts = np.flatnonzero(np.append(True, codes[1:] != codes[:-1]))
    if starts.size != codes.max() + 1:
        raise InvalidInputError("the rows of a request are not contiguous", where=str(path))
    return starts


def _column(table: Any, name: str, dtype: np.dtype[Any], path: Path) -> Array:
    values = table[name].combine_chunks().to_numpy(zero_copy_only=False)
    whole = dtype.kind in "iu"
    if values.dtype.kind not in ("iub" if whole else "iuf"):
        raise InvalidInputError(
            f"column '{name}' holds {table[name].type}, expected {dtype}"
            + (", without missing values" if whole else ""),
            where=str(path),
        )
    result: Array = values.astype(dtype)
    return result


def _strings(table: Any, name: str) -> Array:
    return np.array(table[name].to_pylist(), dtype=np.str_)


def _instant(value: np.datetime64) -> datetime:
    return datetime.fromtimestamp(value.astype("datetime64[us]").astype(np.int64) / 1e6, tz=UTC)
