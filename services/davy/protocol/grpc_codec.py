"""Open Inference Protocol over gRPC: messages to tensors and back, raw and typed.

Belongs here: the messages of an inference, request and response, in both directions.
Not here: calls, deadlines and status codes (`davy.predictor.grpc_server`).

A message holds all of its tensors raw, as the binary extension of HTTP writes them, or all of them
typed, in the field of their datatype. FP16 has no such field. Parameters are booleans, numbers or
texts; others, which only HTTP can carry, travel as JSON text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from google.protobuf.message import DecodeError

from davy.core.errors import InvalidInputError
from davy.protocol import open_inference_pb2 as messages
from davy.protocol.tensors import (
    DTYPES,
    Array,
    Tensor,
    bounds,
    checked,
    from_raw,
    read_shape,
    reshape,
    to_binary,
)
from davy.protocol.v2 import InferRequest, InferResponse, RequestedOutput

# Of generated classes, mypy knows nothing.
Message = Any

_FIELDS: Mapping[str, str] = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
# A field holds numbers wider than these datatypes.
_NARROW = frozenset({"INT8", "INT16", "UINT8", "UINT16"})


def parse(kind: Message, data: bytes) -> Message:
    """Read the bytes of a message of class `kind`.

    Raises
    ------
    InvalidInputError
        They are none.
    """
    try:
        return kind.FromString(data)
    except DecodeError:
        raise InvalidInputError(f"not a {kind.DESCRIPTOR.name}", where="message") from None


def decode_request(message: Message) -> InferRequest:
    """Read a ``ModelInferRequest``; its model's name and version are left to the caller.

    Raises
    ------
    InvalidInputError
        It is not well-formed; names the tensor and what is wrong with it.
    """
    if not message.inputs:
        raise InvalidInputError("must be a list of at least one tensor", where="inputs")
    return InferRequest(
        inputs=_tensors(message.inputs, message.raw_input_contents, "input"),
        id=message.id,
        outputs=_requested(message.outputs),
        parameters=_parameters(message.parameters, ""),
    )


def decode_response(message: Message) -> InferResponse:
    """Read a ``ModelInferResponse``; errors as in `decode_request`."""
    return InferResponse(
        model_name=message.model_name,
        model_version=message.model_version,
        outputs=_tensors(message.outputs, message.raw_output_contents, "output"),
        id=message.id,
        parameters=_parameters(message.parameters, ""),
    )


def encode_request(
    request: InferRequest, model_name: str, model_version: str = "", *, raw: bool = True
) -> Message:
    """Write a ``ModelInferRequest``.

    Parameters
    ----------
    request : InferRequest
        What to ask.
    model_name, model_version : str
        Whom to ask; no version means any.
    raw : bool
        Hold the tensors raw; typed otherwise, unless there is one of datatype FP16.

    Raises
    ------
    InvalidInputError
        A tensor's array does not fit its datatype.
    """
    message = messages.ModelInferRequest(
        model_name=model_name, model_version=model_version, id=request.id
    )
    for asked in request.outputs:
        message.outputs.add(name=asked.name)
    _write_parameters(request.parameters, message.parameters)
    _write(request.inputs, message.inputs, message.raw_input_contents, raw=raw)
    return message


def encode_response(response: InferResponse, *, raw: bool) -> Message:
    """Write a ``ModelInferResponse``; `raw` and errors as in `encode_request`."""
    message = messages.ModelInferResponse(
        model_name=response.model_name, model_version=response.model_version, id=response.id
    )
    if response.parameters:
        _write_parameters(response.parameters, message.parameters)
    _write(response.outputs, message.outputs, message.raw_output_contents, raw=raw)
    return message


# Reading


def _tensors(items: Sequence[Message], raw: Sequence[bytes], kind: str) -> tuple[Tensor, ...]:
    contents = f"raw_{kind}_contents"
    if raw and len(raw) != len(items):
        raise InvalidInputError(f"has {len(raw)} entries for {len(items)} {kind}s", where=contents)
    tensors: list[Tensor] = []
    names: set[str] = set()
    for index, item in enumerate(items):
        name = item.name
        if not name:
            raise InvalidInputError("must have a 'name'", where=f"{kind}s[{index}]")
        where = f"{kind}s[{index}] '{name}'"
        if name in names:
            raise InvalidInputError("is given twice", where=where)
        names.add(name)
        datatype = item.datatype
        if datatype not in DTYPES:
            raise InvalidInputError(
                f"datatype must be one of {', '.join(DTYPES)}", where=f"{where} datatype"
            )
        shape, count = read_shape(list(item.shape), where)
        if raw:
            if item.HasField("contents") and item.contents.ListFields():
                raise InvalidInputError(f"has contents beside {contents}", where=where)
            told_by = f"the length in {contents}"
            flat = from_raw(raw[index], datatype, count, where, told_by)
        else:
            flat = _from_typed(item.contents, datatype, shape, count, where)
        parameters = _parameters(item.parameters, f"{where} ")
        data = flat if len(shape) == 1 else reshape(flat, shape, where)
        tensors.append(Tensor(name, datatype, shape, data, parameters))
    return tuple(tensors)


def _from_typed(
    contents: Message, datatype: str, shape: tuple[int, ...], count: int, where: str
) -> Array:
    field = _FIELDS.get(datatype)
    wrong = next((item.name for item, _ in contents.ListFields() if item.name != field), None)
    if wrong is not None:
        raise InvalidInputError(f"{datatype} does not belong in {wrong}", where=where)
    if field is None and count > 0:
        raise InvalidInputError(f"{datatype} has no typed contents, only raw ones", where=where)
    values = getattr(contents, field) if field else ()
    if len(values) != count:
        raise InvalidInputError(
            f"shape {list(shape)} needs {count} elements but {field} has {len(values)}",
            where=where,
        )
    dtype = DTYPES[datatype]
    if datatype == "BYTES":
        array = np.empty(count, dtype)
        array[:] = list(values)
        return array
    if datatype not in _NARROW:
        return np.fromiter(values, dtype, count)
    wide = np.fromiter(values, np.int64, count)
    low, high = bounds(dtype)
    if count and (wide.min() < low or wide.max() > high):
        raise InvalidInputError(f"has a value outside {datatype} ({low} to {high})", where=where)
    return wide.astype(dtype)


def _requested(items: Sequence[Message]) -> tuple[RequestedOutput, ...]:
    for index, item in enumerate(items):
        if not item.name:
            raise InvalidInputError("must have a 'name'", where=f"outputs[{index}]")
    return tuple(RequestedOutput(item.name) for item in items)


def _parameters(entries: Mapping[str, Message], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, entry in entries.items():
        choice = entry.WhichOneof("parameter_choice")
        if choice is None:
            raise InvalidInputError("has no value", where=f"{prefix}parameter '{name}'")
        # KServe's client leaves in what only means something over HTTP.
        if name != "binary_data_size":
            found[name] = getattr(entry, choice)
    return found


# Writing


def _write(tensors: Sequence[Tensor], items: Any, contents: Any, *, raw: bool) -> None:
    raw = raw or any(tensor.datatype == "FP16" for tensor in tensors)
    for tensor in tensors:
        data = checked(tensor)
        item = items.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        if tensor.parameters:
            _write_parameters(tensor.parameters, item.parameters)
        if raw:
            contents.append(to_binary(data, tensor.datatype))
        else:
            getattr(item.contents, _FIELDS[tensor.datatype]).extend(data.ravel().tolist())


def _write_parameters(parameters: Mapping[str, Any], entries: Any) -> None:
    for name, value in parameters.items():
        entry = entries[name]
        if isinstance(value, bool):
            entry.bool_param = value
        elif isinstance(value, int) and -(2**63) <= value < 2**63:
            entry.int64_param = value
        elif isinstance(value, int) and 0 <= value < 2**64:
            entry.uint64_param = value
        elif isinstance(value, float):
            entry.double_param = value
        elif isinstance(value, str):
            entry.string_param = value
        else:
            entry.string_param = _json(value, name)


def _json(value: Any, name: str) -> str:
    try:
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    except TypeError as error:
        raise InvalidInputError(
            f"cannot be written: {error}", where=f"parameter '{name}'"
        ) from None
