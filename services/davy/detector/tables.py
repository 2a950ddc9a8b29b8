"""Exchanges as columns: one row of a table for each row that was asked and answered.

Belongs here: names and types of the columns, which exchanges fit into one table; pure. Not here:
files (`archive.py`).

Features have their own names, outputs the prefix ``output_``, what is said of the request
``davy_``. Numbers stay as they came over the wire; a tensor of several columns is a list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import pyarrow as pa

from davy.detector.pairing import Exchange
from davy.protocol.tensors import Tensor

OUTPUT = "output_"
HOUR = "%Y-%m-%dT%H"
TIME = pa.timestamp("us", tz="UTC")


class Archived(NamedTuple):
    """An exchange, and the model that it was an exchange with."""

    model: str
    exchange: Exchange


class Partition(NamedTuple):
    """Where rows belong: the hour of their event, UTC, and who answered."""

    hour: str
    model: str
    version: str

    @property
    def path(self) -> str:
        """The folder, as Hive names it."""
        model, version = quote(self.model, safe=""), quote(self.version, safe="")
        return f"hour={self.hour}/model={model}/version={version}"


class _Column(NamedTuple):
    name: str
    datatype: str
    width: int


_Signature = tuple[_Column, ...]


def tables(archived: Iterable[Archived]) -> list[tuple[Partition, pa.Table]]:
    """Return the tables that hold these exchanges.

    Exchanges of a partition whose columns differ (no response came, a feature is left out) are in
    tables of their own.
    """
    groups: dict[tuple[Partition, _Signature], list[tuple[Exchange, list[Any]]]] = {}
    for model, exchange in archived:
        columns = _columns(exchange)
        signature = tuple(column for column, _ in columns)
        hour = exchange.time.astimezone(UTC).strftime(HOUR)
        partition = Partition(hour, model, exchange.version)
        values = [value for _, value in columns]
        groups.setdefault((partition, signature), []).append((exchange, values))
    return [
        (partition, _table(signature, members))
        for (partition, signature), members in groups.items()
    ]


def rows_of(tensors: Sequence[Tensor]) -> int:
    """Return the number of rows that tensors have."""
    return max((tensor.shape[0] for tensor in tensors if tensor.shape), default=0)


def _columns(exchange: Exchange) -> list[tuple[_Column, Any]]:
    asked = exchange.request.sample.tensors
    rows = rows_of(asked)
    found = _of(asked, rows, "")
    if exchange.response is not None:
        found |= _of(exchange.response.sample.tensors, rows, OUTPUT)
    return [(column, found[column]) for column in sorted(found)]


def _of(tensors: Sequence[Tensor], rows: int, prefix: str) -> dict[_Column, Any]:
    return {
        _Column(prefix + t.name, t.datatype, t.data.size // rows): t.data.reshape(-1)
        for t in tensors
        if rows and t.shape and t.shape[0] == rows and t.data.size
    }


def _table(signature: _Signature, members: Sequence[tuple[Exchange, Sequence[Any]]]) -> pa.Table:
    exchanges = [exchange for exchange, _ in members]
    counts = np.array([rows_of(exchange.request.sample.tensors) for exchange in exchanges])
    columns: dict[str, Any] = {
        "davy_request_id": _repeated([e.id for e in exchanges], counts, pa.string()),
        "davy_time": _repeated([_utc(e.time) for e in exchanges], counts, TIME),
        "davy_row": pa.array(np.concatenate([np.arange(n, dtype=np.int32) for n in counts])),
        "davy_namespace": _event(exchanges, counts, "namespace"),
        "davy_service": _event(exchanges, counts, "service"),
        "davy_sample_rate": _event(exchanges, counts, "sample_rate"),
    }
    for index, column in enumerate(signature):
        whole = np.concatenate([values[index] for _, values in members])
        array = pa.array(whole)
        if column.width > 1:
            array = pa.FixedSizeListArray.from_arrays(array, column.width)
        columns[column.name] = array
    return pa.table(columns)


def _event(exchanges: Sequence[Exchange], counts: Any, name: str) -> pa.Array:
    values = [getattr(exchange.request.event, name) for exchange in exchanges]
    kinds: Mapping[type, pa.DataType] = {str: pa.string(), float: pa.float64()}
    return _repeated(values, counts, kinds[type(values[0])])


def _repeated(values: Sequence[Any], counts: Any, kind: pa.DataType) -> pa.Array:
    return pa.array(values, kind).take(pa.array(np.repeat(np.arange(len(counts)), counts)))


def _utc(time: datetime) -> datetime:
    return time.astimezone(UTC)
