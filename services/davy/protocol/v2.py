"""Open Inference Protocol (V2) over HTTP: bodies to tensors and back, JSON and binary.

Belongs here: the two bodies of an inference, request and response, in both directions.
Not here: what a model's contract allows, HTTP routes, gRPC.

The binary extension puts a JSON header of ``header_length`` bytes first (HTTP header
``Inference-Header-Content-Length``) and the tensors after it, in order, little endian. Such a
tensor is a view into the body, not a copy, wherever its offset is aligned.

JSON has no NaN: it is written as ``null``, and ``null`` in a floating tensor is read as NaN.
The literals ``NaN`` and ``Infinity`` that Python clients write are read too.

Source: https://github.com/kserve/open-inference-protocol and Triton's "Binary Tensor Data
Extension".
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from davy.core.errors import InvalidInputError
from davy.protocol.tensors import (
    DTYPES,
    Tensor,
    checked,
    from_binary,
    from_json,
    read_shape,
    reshape,
    to_binary,
    to_json,
)

HEADER_LENGTH = "inference-header-content-length"

Body = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """An output that the request asks for; ``binary`` is None where the request left it open."""

    name: str
    binary: bool | None = None


@dataclass(frozen=True, slots=True)
class InferRequest:
    """One inference as asked: no ``outputs`` means all of them."""

    inputs: tuple[Tensor, ...]
    id: str = ""
    outputs: tuple[RequestedOutput, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def binary(self, output: str) -> bool:
        """Tell whether the answer should hold `output` in binary form."""
        for asked in self.outputs:
            if asked.name == output and asked.binary is not None:
                return asked.binary
        return self.parameters.get("binary_data_output") is True


@dataclass(frozen=True, slots=True)
class InferResponse:
    """One inference as answered."""

    model_name: str
    model_version: str
    outputs: tuple[Tensor, ...]
    id: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)


class Encoded(NamedTuple):
    """A body, and the length of its JSON header when binary tensors follow (else None)."""

    body: bytes
    header_length: int | None


def decode_request(body: Body, header_length: int | None = None) -> InferRequest:
    """Read an inference request.

    Parameters
    ----------
    body : bytes-like
        The whole HTTP body.
    header_length : int, optional
        Value of ``Inference-Header-Content-Length``; None when the body is all JSON.

    Raises
    ------
    InvalidInputError
        The body is not a well-formed request; names the tensor and what is wrong with it.
    """
    document, rest = _split(body, header_length)
    inputs = document.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise InvalidInputError("must be a list of at least one tensor", where="inputs")
    return InferRequest(
        inputs=_tensors(inputs, "inputs", rest),
        id=_text(document, "id"),
        outputs=_requested(document.get("outputs")),
        parameters=_parameters(document, "parameters"),
    )


def decode_response(body: Body, header_length: int | None = None) -> InferResponse:
    """Read an inference response; arguments and errors as in `decode_request`."""
    document, rest = _split(body, header_length)
    outputs = document.get("outputs")
    if not isinstance(outputs, list):
        raise InvalidInputError("must be a list of tensors", where="outputs")
    return InferResponse(
        model_name=_text(document, "model_name"),
        model_version=_text(document, "model_version"),
        outputs=_tensors(outputs, "outputs", rest),
        id=_text(document, "id"),
        parameters=_parameters(document, "parameters"),
    )


def encode_request(request: InferRequest, *, binary: bool = False) -> Encoded:
    """Write an inference request, its inputs all in binary form or all in JSON.

    Raises
    ------
    InvalidInputError
        A tensor cannot be written: its array does not fit its datatype, or JSON cannot hold it
        (an infinite number, bytes that are not UTF-8).
    """
    names = frozenset(t.name for t in request.inputs) if binary else frozenset()
    document: dict[str, Any] = {}
    if request.id:
        document["id"] = request.id
    if request.parameters:
        document["parameters"] = request.parameters
    if request.outputs:
        document["outputs"] = [_asked(output) for output in request.outputs]
    return _encode(document, "inputs", request.inputs, names)


def encode_response(response: InferResponse, *, binary: Collection[str] = ()) -> Encoded:
    """Write an inference response; the outputs named in `binary` in binary form.

    Errors as in `encode_request`.
    """
    document: dict[str, Any] = {
        "model_name": response.model_name,
        "model_version": response.model_version,
    }
    if response.id:
        document["id"] = response.id
    if response.parameters:
        document["parameters"] = response.parameters
    return _encode(document, "outputs", response.outputs, binary)


# Reading


def _split(body: Body, header_length: int | None) -> tuple[dict[str, Any], memoryview | None]:
    view = memoryview(body)
    rest: memoryview | None = None
    if header_length is not None:
        if not 0 < header_length <= len(view):
            raise InvalidInputError(
                f"header length {header_length} does not fit a body of {len(view)} bytes",
                where=HEADER_LENGTH,
            )
        view, rest = view[:header_length], view[header_length:]
    document = _parse(view)
    if not isinstance(document, dict):
        raise InvalidInputError("must be a JSON object", where="body")
    return document, rest


def _parse(view: memoryview) -> Any:
    try:
        return orjson.loads(view)
    except orjson.JSONDecodeError as error:
        reason = str(error)
    text = bytes(view)
    if b"NaN" in text or b"Infinity" in text:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            pass
    raise InvalidInputError(f"not JSON: {reason}", where="body")


def _text(document: Mapping[str, Any], key: str) -> str:
    value = document.get(key)
    if value is None:
        return ""
    if not isinstance(value, str) or not _is_unicode(value):
        raise InvalidInputError("must be a string", where=key)
    return value


def _is_unicode(text: str) -> bool:
    # json.loads lets lone surrogates through, which nothing could write again.
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parameters(document: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    value = document.get("parameters")
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInputError("must be an object", where=where)
    return value


def _requested(items: Any) -> tuple[RequestedOutput, ...]:
    if items is None:
        return ()
    if not isinstance(items, list):
        raise InvalidInputError("must be a list", where="outputs")
    asked = []
    for index, item in enumerate(items):
        where = f"outputs[{index}]"
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str) or not name or not _is_unicode(name):
            raise InvalidInputError("must be an object with a 'name'", where=where)
        binary = _parameters(item, f"{where} '{name}' parameters").get("binary_data")
        if binary is not None and not isinstance(binary, bool):
            raise InvalidInputError("binary_data must be true or false", where=f"{where} '{name}'")
        asked.append(RequestedOutput(name, binary))
    return tuple(asked)


def _tensors(items: list[Any], kind: str, rest: memoryview | None) -> tuple[Tensor, ...]:
    tensors: list[Tensor] = []
    names: set[str] = set()
    offset = 0
    for index, item in enumerate(items):
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str) or not name or not _is_unicode(name):
            raise InvalidInputError("must be an object with a 'name'", where=f"{kind}[{index}]")
        where = f"{kind}[{index}] '{name}'"
        if name in names:
            raise InvalidInputError("is given twice", where=where)
        names.add(name)
        datatype = item.get("datatype")
        if not isinstance(datatype, str) or datatype not in DTYPES:
            raise InvalidInputError(
                f"datatype must be one of {', '.join(DTYPES)}", where=f"{where} datatype"
            )
        shape, count = read_shape(item.get("shape"), where)
        parameters = item.get("parameters")
        if parameters is None:
            parameters = {}
        elif not isinstance(parameters, dict):
            raise InvalidInputError("must be an object", where=f"{where} parameters")
        size = parameters.get("binary_data_size")
        if size is None:
            flat = from_json(item.get("data"), datatype, shape, count, where)
        else:
            flat = from_binary(rest, offset, size, datatype, count, where)
            offset += size
            parameters = {k: v for k, v in parameters.items() if k != "binary_data_size"}
        data = flat if len(shape) == 1 else reshape(flat, shape, where)
        tensors.append(Tensor(name, datatype, shape, data, parameters))
    if rest is not None and offset != len(rest):
        raise InvalidInputError(
            f"{len(rest)} bytes follow the JSON header but the tensors take {offset}", where=kind
        )
    return tuple(tensors)


# Writing


def _asked(output: RequestedOutput) -> dict[str, Any]:
    if output.binary is None:
        return {"name": output.name}
    return {"name": output.name, "parameters": {"binary_data": output.binary}}


def _encode(
    document: dict[str, Any], kind: str, tensors: Sequence[Tensor], binary: Collection[str]
) -> Encoded:
    items: list[dict[str, Any]] = []
    blobs: list[bytes] = []
    document[kind] = items
    for item in tensors:
        entry: dict[str, Any] = {
            "name": item.name,
            "datatype": item.datatype,
            "shape": list(item.shape),
        }
        parameters = item.parameters
        data = checked(item)
        if item.name in binary:
            blob = to_binary(data, item.datatype)
            blobs.append(blob)
            parameters = {**parameters, "binary_data_size": len(blob)}
        else:
            entry["data"] = to_json(data, item)
        if parameters:
            entry["parameters"] = parameters
        items.append(entry)
    try:
        header = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as error:
        raise InvalidInputError(f"cannot be written as JSON: {error}", where=kind) from None
    if not blobs:
        return Encoded(header, None)
    return Encoded(b"".join([header, *blobs]), len(header))
