"""Held-out baskets as ready-to-send requests, as they were and with a broken upstream.

Belongs here: rows to Open Inference Protocol bodies, what breaks in the drift phase.
Not here: sending them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from davy.core.errors import InvalidInputError
from davy.packaging.contract import TensorSpec
from davy.protocol import v2
from davy.protocol.tensors import DTYPES, tensor

Columns = Mapping[str, npt.NDArray[Any]]

_PLACEHOLDER = "0" * 20
PRICE_SHIFT = 1.25
BROKEN_FEATURE = "popularity_28d"
SHIFTED_FEATURE = "unit_price"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A binary V2 request around the place of its id."""

    before: bytes
    after: bytes
    header_length: int

    def with_id(self, number: int) -> tuple[bytes, dict[str, str]]:
        """Return the body and headers of the request with the given number as its id."""
        return b"".join((self.before, b"%020d" % number, self.after)), {
            "Content-Type": "application/octet-stream",
            "Inference-Header-Content-Length": str(self.header_length),
        }


def unchanged(columns: Columns) -> Columns:
    """Return the rows as they were."""
    return columns


def broken_upstream(columns: Columns) -> Columns:
    """Return the rows after a broken join and a price rise.

    The join that brings `BROKEN_FEATURE` finds nothing any more (null), and `SHIFTED_FEATURE`
    is `PRICE_SHIFT` times what it was.
    """
    changed = dict(columns)
    changed[BROKEN_FEATURE] = np.full_like(columns[BROKEN_FEATURE], np.nan)
    changed[SHIFTED_FEATURE] = columns[SHIFTED_FEATURE] * np.float32(PRICE_SHIFT)
    return changed


PHASES: Mapping[str, Callable[[Columns], Columns]] = {
    "normal": unchanged,
    "drift": broken_upstream,
}


def prepare(replay: Path, inputs: Sequence[TensorSpec], out: Path) -> int:
    """Write one file of ready requests a phase and return how many requests each holds.

    Parameters
    ----------
    replay : Path
        Parquet with the feature columns and ``request_id``, rows of a request contiguous.
    inputs : sequence of TensorSpec
        The model's inputs; each is a column of the file.
    out : Path
        Folder for the files.

    Raises
    ------
    InvalidInputError
        An input of the model is not a column of the file.
    """
    table = pq.read_table(replay)
    missing = [spec.name for spec in inputs if spec.name not in table.column_names]
    if missing:
        raise InvalidInputError(
            f"no column for the model's input {', '.join(missing)}", where=str(replay)
        )
    columns = {
        spec.name: table[spec.name].to_numpy().astype(DTYPES[spec.datatype]) for spec in inputs
    }
    groups = list(_groups(table["request_id"].to_numpy()))
    out.mkdir(parents=True, exist_ok=True)
    for phase, transform in PHASES.items():
        changed = transform(columns)
        encoded = [
            v2.encode_request(
                v2.InferRequest(
                    id=_PLACEHOLDER,
                    inputs=tuple(tensor(name, values[rows]) for name, values in changed.items()),
                    parameters={"binary_data_output": True},
                ),
                binary=True,
            )
            for rows in groups
        ]
        pq.write_table(
            pa.table(
                {
                    "body": pa.array([e.body for e in encoded], pa.binary()),
                    "header_length": pa.array([e.header_length for e in encoded], pa.int64()),
                }
            ),
            out / f"{phase}.parquet",
        )
    return len(groups)


def _groups(ids: npt.NDArray[Any]) -> Iterator[slice]:
    starts = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]]) if len(ids) else np.array([], int)
    ends = np.r_[starts[1:], len(ids)]
    for start, end in zip(starts, ends, strict=True):
        yield slice(int(start), int(end))


def read_prepared(folder: Path) -> dict[str, list[Prepared]]:
    """Read the files that `prepare` wrote, by phase."""
    phases = {}
    for phase in PHASES:
        table = pq.read_table(folder / f"{phase}.parquet")
        phases[phase] = [
            Prepared(*_around_id(body), header_length)
            for body, header_length in zip(
                table["body"].to_pylist(), table["header_length"].to_pylist(), strict=True
            )
        ]
    return phases


def _around_id(body: bytes) -> tuple[bytes, bytes]:
    before, _, after = body.partition(_PLACEHOLDER.encode())
    return before, after
