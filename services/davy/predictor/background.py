"""Background rows of a package: its reference as columns that the model takes.

Belongs here: reading ``reference.parquet``, the datatypes of its columns.
Not here: what the rows are used for.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from davy.core.errors import NotFoundError
from davy.packaging.contract import TensorSpec
from davy.packaging.package import REFERENCE, Package
from davy.protocol.tensors import DTYPES, Array

# An average over a thousand rows is known to 3 % of the score's spread.
MOST_ROWS = 1000


def background(package: Package, *, seed: int = 0) -> dict[str, Array]:
    """Return rows of the package's reference, one column an input of the model.

    Parameters
    ----------
    package : Package
        Verified; the reference is hashed again as it is read.
    seed : int
        Chooses the rows where there are more than `MOST_ROWS`.

    Raises
    ------
    NotFoundError
        The reference lacks an input, or holds nothing that fits its datatype and shape.
    IntegrityError
        The reference changed since the package was verified.
    """
    # Only who asks for explanations pays for its import.
    import pyarrow as pa
    import pyarrow.parquet as pq

    where = f"{package.contract.name} {package.contract.version}: {REFERENCE}"
    try:
        table = pq.read_table(pa.BufferReader(package.content(REFERENCE)))
    except pa.ArrowException as error:
        raise NotFoundError(f"cannot be read: {error}", where=where) from None
    if table.num_rows > MOST_ROWS:
        rows = np.random.default_rng(seed).choice(table.num_rows, MOST_ROWS, replace=False)
        table = table.take(np.sort(rows))
    return {spec.name: _column(table, spec, where) for spec in package.contract.inputs}


def _column(table: Any, spec: TensorSpec, where: str) -> Array:
    if spec.name not in table.column_names:
        raise NotFoundError(
            f"has no column '{spec.name}', so there is nothing to explain scores against",
            where=where,
            fix="Package the model again with every input in its reference",
        )
    values = table.column(spec.name).to_pylist()
    try:
        array = _array(values, spec.datatype)
    except (TypeError, ValueError, OverflowError):
        array = np.empty(0)
    if len(array) != len(values) or array.shape[1:] != tuple(spec.shape[1:]):
        raise NotFoundError(
            f"column '{spec.name}' does not fit {spec.datatype} {spec.shape}",
            where=where,
            fix="Package the model again from rows of its own inputs",
        )
    return array


def _array(values: list[Any], datatype: str) -> Array:
    if datatype != "BYTES":
        return np.array(values, DTYPES[datatype])
    array = np.empty(len(values), dtype=object)
    array[:] = [value if isinstance(value, bytes) else str(value).encode() for value in values]
    return array
