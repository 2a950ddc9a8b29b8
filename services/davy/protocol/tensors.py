"""One named tensor of the Open Inference Protocol: its array to JSON or bytes and back.

Belongs here: datatypes, the checks that an array fits its datatype and shape.
Not here: the bodies that tensors travel in (`davy.protocol.v2`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from davy.core.errors import InvalidInputError

MAX_DIMENSIONS = 16

DTYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(object),
}
_DATATYPES: Mapping[np.dtype[Any], str] = {dtype: name for name, dtype in DTYPES.items()}

Array = npt.NDArray[Any]
_LARGEST = {name: float(np.finfo(DTYPES[name]).max) for name in ("FP16", "FP32")}


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named array; of datatype BYTES it holds `bytes` objects.

    ``data`` has the dtype of `DTYPES` and shape ``shape``; it may be read-only.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Array
    parameters: Mapping[str, Any] = field(default_factory=dict)


def tensor(name: str, data: Array) -> Tensor:
    """Make a tensor from an array, its datatype from the dtype (object means BYTES).

    Raises
    ------
    InvalidInputError
        The protocol has no datatype for this dtype.
    """
    datatype = _DATATYPES.get(data.dtype.newbyteorder("<"))
    if datatype is None:
        raise InvalidInputError(f"no V2 datatype for numpy dtype {data.dtype}", where=name)
    return Tensor(name, datatype, data.shape, data)


def read_shape(value: Any, where: str) -> tuple[tuple[int, ...], int]:
    """Return a JSON shape as a tuple, and the number of elements that it holds."""
    if not isinstance(value, list) or len(value) > MAX_DIMENSIONS:
        raise InvalidInputError(
            f"must be a list of at most {MAX_DIMENSIONS} dimensions", where=f"{where} shape"
        )
    for dimension in value:
        if type(dimension) is not int or dimension < 0:
            raise InvalidInputError("dimensions must be integers >= 0", where=f"{where} shape")
    return tuple(value), math.prod(value)


def reshape(flat: Array, shape: tuple[int, ...], where: str) -> Array:
    """Give a flat array its shape, which it is known to fill."""
    try:
        return flat.reshape(shape)
    except (ValueError, OverflowError):
        raise InvalidInputError("is too large", where=f"{where} shape") from None


def from_binary(
    rest: memoryview | None, offset: int, size: Any, datatype: str, count: int, where: str
) -> Array:
    """Read `size` bytes at `offset` of the part after the JSON header as a flat array.

    Raises
    ------
    InvalidInputError
        The bytes are not there, or are not `count` elements of `datatype`.
    """
    if type(size) is not int or size < 0:
        raise InvalidInputError("binary_data_size must be an integer >= 0", where=where)
    if rest is None:
        raise InvalidInputError(
            "has binary_data_size but there is no Inference-Header-Content-Length header",
            where=where,
        )
    if offset + size > len(rest):
        raise InvalidInputError(
            f"needs {size} bytes but {len(rest) - offset} are left in the body", where=where
        )
    return from_raw(rest[offset : offset + size], datatype, count, where, "binary_data_size")


def from_raw(
    view: bytes | memoryview, datatype: str, count: int, where: str, told_by: str
) -> Array:
    """Read all of `view` as a flat array; `told_by` names for the reader what its length is.

    Raises
    ------
    InvalidInputError
        The bytes are not `count` elements of `datatype`.
    """
    if datatype == "BYTES":
        return _bytes_from_binary(memoryview(view), count, where)
    dtype = DTYPES[datatype]
    if len(view) != count * dtype.itemsize:
        raise InvalidInputError(
            f"{told_by} is {len(view)} but {count} elements of {datatype} take "
            f"{count * dtype.itemsize} bytes",
            where=where,
        )
    if count == 0:
        return np.empty(0, dtype)
    array: Array = np.frombuffer(view, dtype)
    if datatype == "BOOL" and array.view(np.uint8).max() > 1:
        raise InvalidInputError("BOOL bytes must be 0 or 1", where=where)
    # The runtime reads elements in place; an address that is not a multiple of their size
    # is slow there or, on some processors, a fault.
    return array if array.flags.aligned else array.copy()


def _bytes_from_binary(view: memoryview, count: int, where: str) -> Array:
    if count * 4 > len(view):
        raise InvalidInputError(
            f"{count} elements of BYTES need at least {count * 4} bytes", where=where
        )
    array = np.empty(count, dtype=object)
    position = 0
    for index in range(count):
        start = position + 4
        length = int.from_bytes(view[position:start], "little")
        position = start + length
        if position > len(view):
            raise InvalidInputError(f"element {index} runs past the tensor's end", where=where)
        array[index] = bytes(view[start:position])
    if position != len(view):
        raise InvalidInputError(
            f"{len(view) - position} bytes are left after {count} elements", where=where
        )
    return array


def from_json(data: Any, datatype: str, shape: tuple[int, ...], count: int, where: str) -> Array:
    """Read a JSON ``data`` list, flat or nested, as a flat array of `count` elements.

    Raises
    ------
    InvalidInputError
        An element is of another type or out of the datatype's bounds, or the nesting is not that
        of `shape`.
    """
    if not isinstance(data, list):
        # A scalar (shape []) may be written bare.
        if data is None or isinstance(data, dict) or shape:
            raise InvalidInputError("has no 'data' list", where=where)
        data = [data]
    flat = _flatten(data, shape, where) if data and type(data[0]) is list else data
    if len(flat) != count:
        raise InvalidInputError(
            f"shape {list(shape)} needs {count} elements but data has {len(flat)}", where=where
        )
    kinds = set(map(type, flat))
    if datatype == "BYTES":
        return _bytes_from_json(flat, kinds, where)
    dtype = DTYPES[datatype]
    if datatype == "BOOL":
        if not kinds <= {bool}:
            raise InvalidInputError("BOOL data must be true or false", where=where)
        return np.array(flat, dtype)
    if dtype.kind == "f":
        return _floats_from_json(flat, kinds, datatype, where)
    if not kinds <= {int}:
        raise InvalidInputError(f"{datatype} data must be integers", where=where)
    low, high = bounds(dtype)
    if flat and not (low <= min(flat) and max(flat) <= high):
        raise InvalidInputError(f"has a value outside {datatype} ({low} to {high})", where=where)
    return np.array(flat, dtype)


def bounds(dtype: np.dtype[Any]) -> tuple[int, int]:
    """Return the least and the greatest number of an integer dtype."""
    bits = dtype.itemsize * 8
    return (0, 2**bits - 1) if dtype.kind == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _floats_from_json(flat: list[Any], kinds: set[type], datatype: str, where: str) -> Array:
    if not kinds <= {float, int, type(None)}:
        raise InvalidInputError(f"{datatype} data must be numbers or null", where=where)
    try:
        if type(None) in kinds:
            # numpy reads None as NaN.
            wide = np.array(flat, dtype=np.float64)
        else:
            wide = np.fromiter(flat, np.float64, len(flat))
    except OverflowError:
        raise InvalidInputError(f"has a value outside {datatype}", where=where) from None
    if datatype == "FP64":
        return wide
    limit = _LARGEST[datatype]
    # The usual case, told by the least and the greatest alone; NaN compares with nothing.
    if flat and -limit <= np.minimum.reduce(wide) and np.maximum.reduce(wide) <= limit:
        return wide.astype(DTYPES[datatype])
    with np.errstate(over="ignore"):
        array = wide.astype(DTYPES[datatype])
    if np.isinf(array).any() and (np.isinf(array) & ~np.isinf(wide)).any():
        raise InvalidInputError(f"has a value outside {datatype}", where=where)
    return array


def _bytes_from_json(flat: list[Any], kinds: set[type], where: str) -> Array:
    if not kinds <= {str}:
        raise InvalidInputError("BYTES data in JSON must be strings", where=where)
    array = np.empty(len(flat), dtype=object)
    try:
        array[:] = [text.encode() for text in flat]
    except UnicodeEncodeError:
        raise InvalidInputError("BYTES data in JSON must be valid Unicode", where=where) from None
    return array


def _flatten(data: list[Any], shape: tuple[int, ...], where: str) -> list[Any]:
    expected = 1
    for axis, dimension in enumerate(shape):
        expected *= dimension
        if len(data) != expected:
            break
        if axis == len(shape) - 1:
            return data
        below = shape[axis + 1]
        if not all(type(item) is list and len(item) == below for item in data):
            break
        data = list(itertools.chain.from_iterable(data))
    raise InvalidInputError(f"nested data does not have the shape {list(shape)}", where=where)


def checked(item: Tensor) -> Array:
    """Return the tensor's array if it fits what the tensor says of itself."""
    dtype = DTYPES.get(item.datatype)
    if dtype is None or item.data.dtype != dtype or item.data.shape != tuple(item.shape):
        raise InvalidInputError(
            f"array of dtype {item.data.dtype} and shape {list(item.data.shape)} does not fit "
            f"{item.datatype} {list(item.shape)}",
            where=item.name,
        )
    return item.data


def to_binary(data: Array, datatype: str) -> bytes:
    """Return an array as the binary extension writes it."""
    if datatype != "BYTES":
        return data.tobytes()
    parts: list[bytes] = []
    for value in data.ravel():
        parts += (len(value).to_bytes(4, "little"), value)
    return b"".join(parts)


def to_json(data: Array, item: Tensor) -> Any:
    """Return an array as something that orjson writes as a flat list."""
    if item.datatype == "BYTES":
        try:
            return [value.decode() for value in data.ravel()]
        except UnicodeDecodeError:
            raise InvalidInputError(
                "holds bytes that are not UTF-8", where=item.name, fix="Use the binary form"
            ) from None
    if data.dtype.kind == "f" and np.isinf(data).any():
        raise InvalidInputError(
            "holds an infinite number, which JSON lacks", where=item.name, fix="Use the binary form"
        )
    return np.ascontiguousarray(data).ravel()
