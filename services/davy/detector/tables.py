"""Exchanges as columns: one row of a table for each row that was asked and answered.

Belongs here: names and types of the columns, which exchanges fit into one table; pure. Not here:
files (`archive.py`).

Features have their own names, outputs the prefix ``output_``, what is said of the request
``davy_``. Numbers stay as they came over the wire; a tensor of several columns is a list.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import pyarrow as pa

from davy.detector.pairing import Exchange
from davy.protocol.tensors import DTYPES, Tensor

OUTPUT = "output_"
HOUR = "%Y-%m-%dT%H"
TIME = pa.timestamp("us", tz="UTC")
TEXT = "BYTES"
# Sets of columns that are remembered; events of others are only slower.
SIGNATURES = 256


class Partition(NamedTuple):
    """Where rows belong: the hour of their event, UTC, and who answered."""

    hour: str
    model: str
    version: str

    @property
    def folder(self) -> str:
        """The folder, as Hive names it."""
        model, version = quote(self.model, safe=""), quote(self.version, safe="")
        return f"hour={self.hour}/model={model}/version={version}"


class _Column(NamedTuple):
    name: str
    datatype: str
    width: int


_Signature = tuple[_Column, ...]


@dataclass(frozen=True, slots=True)
class Packed:
    """An exchange as little as it takes until it is written.

    ``cells`` are its numbers, row by row as `numpy` packs them, ``texts`` the columns of bytes.
    """

    key: bytes
    place: int
    partition: Partition
    id: str
    time: datetime
    namespace: str
    service: str
    sample_rate: float
    rows: int
    signature: _Signature
    cells: bytes
    texts: tuple[Sequence[bytes], ...]

    @property
    def size(self) -> int:
        """Bytes that it holds, about."""
        return len(self.cells) + sum(map(len, self.texts)) * 64 + 500


def pack(model: str, exchange: Exchange) -> Packed:
    """Take from an exchange what the archive keeps of it; the bodies are let go."""
    event, rows = exchange.request.event, rows_of(exchange.request.sample.tensors)
    columns = _of(exchange.request.sample.tensors, rows, "")
    if exchange.response is not None:
        columns |= _of(exchange.response.sample.tensors, rows, OUTPUT)
    signature = _interned(tuple(sorted(columns)))
    cells = np.empty(rows, _dtype(signature))
    for column in signature:
        if column.datatype != TEXT:
            cells[column.name] = columns[column].reshape(cells[column.name].shape)
    time = exchange.time.astimezone(UTC)
    return Packed(
        key=exchange.key,
        place=exchange.place,
        partition=Partition(time.strftime(HOUR), model, exchange.version),
        id=exchange.id,
        time=time,
        namespace=event.namespace,
        service=event.service,
        sample_rate=event.sample_rate,
        rows=rows,
        signature=signature,
        cells=cells.tobytes(),
        texts=tuple(columns[c].tolist() for c in signature if c.datatype == TEXT),
    )


def tables(packed: Iterable[Packed]) -> list[tuple[Partition, pa.Table]]:
    """Return the tables that hold these exchanges.

    Exchanges of a partition whose columns differ (no response came, a feature is left out) are in
    tables of their own.
    """
    groups: dict[tuple[Partition, _Signature], list[Packed]] = {}
    for one in packed:
        groups.setdefault((one.partition, one.signature), []).append(one)
    return [(where, _table(columns, members)) for (where, columns), members in groups.items()]


def rows_of(tensors: Sequence[Tensor]) -> int:
    """Return the number of rows that tensors have."""
    return max((tensor.shape[0] for tensor in tensors if tensor.shape), default=0)


def _of(tensors: Sequence[Tensor], rows: int, prefix: str) -> dict[_Column, Any]:
    return {
        _Column(prefix + t.name, t.datatype, t.data.size // rows): t.data.reshape(-1)
        for t in tensors
        if rows and t.shape and t.shape[0] == rows and t.data.size
    }


@lru_cache(SIGNATURES)
def _interned(signature: _Signature) -> _Signature:
    """Return the one tuple of many that are equal."""
    return signature


@lru_cache(SIGNATURES)
def _dtype(signature: _Signature) -> np.dtype[Any]:
    return np.dtype(
        [
            (c.name, DTYPES[c.datatype], (c.width,) if c.width > 1 else ())
            for c in signature
            if c.datatype != TEXT
        ]
    )


def _table(signature: _Signature, members: Sequence[Packed]) -> pa.Table:
    counts = np.array([one.rows for one in members])
    columns: dict[str, Any] = {
        "davy_request_id": _repeated([one.id for one in members], counts, pa.string()),
        "davy_time": _repeated([one.time for one in members], counts, TIME),
        "davy_row": pa.array(np.concatenate([np.arange(n, dtype=np.int32) for n in counts])),
        "davy_namespace": _repeated([one.namespace for one in members], counts, pa.string()),
        "davy_service": _repeated([one.service for one in members], counts, pa.string()),
        "davy_sample_rate": _repeated([one.sample_rate for one in members], counts, pa.float64()),
    }
    packed, dtype = b"".join(one.cells for one in members), _dtype(signature)
    cells = np.frombuffer(packed, dtype) if dtype.itemsize else np.empty(0, dtype)
    texts = 0
    for column in signature:
        if column.datatype == TEXT:
            array = pa.array([value for one in members for value in one.texts[texts]], pa.binary())
            texts += 1
        else:
            array = pa.array(np.ascontiguousarray(cells[column.name]).reshape(-1))
        if column.width > 1:
            array = pa.FixedSizeListArray.from_arrays(array, column.width)
        columns[column.name] = array
    return pa.table(columns)


def _repeated(values: Sequence[Any], counts: Any, kind: pa.DataType) -> pa.Array:
    return pa.array(values, kind).take(pa.array(np.repeat(np.arange(len(counts)), counts)))
