from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from davy.core.errors import InvalidInputError
from davy.protocol import open_inference_pb2 as messages
from davy.protocol.grpc_codec import (
    decode_request,
    decode_response,
    encode_request,
    encode_response,
    parse,
)
from davy.protocol.tensors import DTYPES, Tensor, tensor
from davy.protocol.v2 import InferRequest, InferResponse, RequestedOutput

SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
PARAMETERS = st.dictionaries(
    st.text(max_size=5),
    st.one_of(
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(allow_nan=False),
        st.text(max_size=5),
    ),
    max_size=3,
)


@st.composite
def tensors(draw: Any) -> Tensor:
    datatype = draw(st.sampled_from(sorted(DTYPES)))
    shape = draw(SHAPES)
    dtype = DTYPES[datatype]
    elements = st.binary(max_size=6) if datatype == "BYTES" else hnp.from_dtype(dtype)
    data = draw(hnp.arrays(dtype, shape, elements=elements, fill=st.nothing()))
    name = draw(st.text(min_size=1, max_size=8))
    return Tensor(name, datatype, shape, data, draw(PARAMETERS))


SEVERAL = st.lists(tensors(), min_size=1, max_size=4, unique_by=lambda item: item.name).map(tuple)


def assert_same(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one.name, one.datatype, one.shape) == (other.name, other.datatype, other.shape)
        assert one.parameters == other.parameters
        assert one.data.dtype == DTYPES[one.datatype]
        assert one.data.shape == one.shape
        np.testing.assert_array_equal(one.data, other.data)


@given(SEVERAL, st.text(max_size=10), PARAMETERS, st.booleans())
def test_request_round_trips(
    inputs: tuple[Tensor, ...], request_id: str, parameters: dict[str, Any], raw: bool
) -> None:
    asked = (RequestedOutput("a"), RequestedOutput("b"))
    request = InferRequest(inputs, request_id, asked, parameters)
    message = encode_request(request, "m", "1", raw=raw)
    message = parse(messages.ModelInferRequest, message.SerializeToString())
    assert (message.model_name, message.model_version) == ("m", "1")
    assert bool(message.raw_input_contents) == (raw or any(t.datatype == "FP16" for t in inputs))
    found = decode_request(message)
    assert_same(found.inputs, inputs)
    assert (found.id, found.outputs, found.parameters) == (request_id, asked, parameters)


@given(SEVERAL, PARAMETERS, st.booleans())
def test_response_round_trips(
    outputs: tuple[Tensor, ...], parameters: dict[str, Any], raw: bool
) -> None:
    response = InferResponse("m", "v", outputs, "1", parameters)
    message = encode_response(response, raw=raw)
    found = decode_response(parse(messages.ModelInferResponse, message.SerializeToString()))
    assert_same(found.outputs, outputs)
    assert (found.model_name, found.model_version, found.id) == ("m", "v", "1")
    assert found.parameters == parameters


def test_what_only_http_carries() -> None:
    deep = {"by_row": [1.5, None], "large": 2**70}
    message = encode_response(InferResponse("m", "v", (), parameters={"scores": deep["by_row"]}),
                              raw=True)  # fmt: skip
    assert message.parameters["scores"].string_param == "[1.5,null]"
    with pytest.raises(InvalidInputError, match="parameter 'large': cannot be written"):
        encode_response(InferResponse("m", "v", (), parameters=deep), raw=True)
    request = encode_request(InferRequest((tensor("x", np.ones(1)),)), "m")
    request.inputs[0].parameters["binary_data_size"].int64_param = 8
    assert decode_request(request).inputs[0].parameters == {}


def test_an_array_that_does_not_fit_is_not_written() -> None:
    item = Tensor("x", "FP32", (3,), np.ones(2, np.float32))
    with pytest.raises(InvalidInputError, match="x: array of dtype float32"):
        encode_request(InferRequest((item,)), "m")


def message(
    *shape: int,
    datatype: str = "FP32",
    raw: tuple[bytes, ...] = (),
    name: str = "x",
    **contents: Any,
) -> Any:
    item = {"name": name, "datatype": datatype, "shape": shape}
    if contents:
        item["contents"] = contents
    return messages.ModelInferRequest(model_name="m", inputs=[item], raw_input_contents=raw)


def twice() -> Any:
    once = message(1, raw=(b"\0" * 4,))
    once.inputs.add(name="x", datatype="FP32", shape=[1])
    once.raw_input_contents.append(b"\0" * 4)
    return once


def with_parameter() -> Any:
    item = message(1, raw=(b"\0" * 4,))
    item.inputs[0].parameters["p"].Clear()
    return item


def asking_for_nothing() -> Any:
    item = message(1, raw=(b"\0" * 4,))
    item.outputs.add()
    return item


@pytest.mark.parametrize(
    ("bad", "place", "what"),
    [
        (messages.ModelInferRequest(), "inputs", "at least one tensor"),
        (message(1, name="", raw=(b"1234",)), "inputs[0]", "must have a 'name'"),
        (twice(), "inputs[1] 'x'", "is given twice"),
        (message(1, datatype="FP8"), "inputs[0] 'x' datatype", "must be one of BOOL"),
        (message(1, datatype="fp32"), "inputs[0] 'x' datatype", "must be one of BOOL"),
        (message(-1, raw=(b"1234",)), "inputs[0] 'x' shape", "dimensions must be integers >= 0"),
        (message(*[1] * 17, raw=(b"1234",)), "inputs[0] 'x' shape", "at most 16"),
        (message(2**31, raw=(b"1234",)), "inputs[0] 'x'", "is 4 but 2147483648 elements of FP32"),
        (message(2**62, 2**62, 2**62, raw=(b"",)), "inputs[0] 'x'", "is 0 but"),
        (message(2**62, 2**62, 0, raw=(b"",)), "inputs[0] 'x' shape", "is too large"),
        (message(2**31, fp32_contents=[1]), "inputs[0] 'x'", "but fp32_contents has 1"),
        (message(2**31), "inputs[0] 'x'", "but fp32_contents has 0"),
        (message(2, raw=(b"12345",)), "inputs[0] 'x'", "the length in raw_input_contents is 5"),
        (message(1, raw=(b"1234", b"")), "raw_input_contents", "has 2 entries for 1 inputs"),
        (message(1, raw=(b"1234",), fp32_contents=[1]), "inputs[0] 'x'", "beside raw_input"),
        (message(1, fp64_contents=[1]), "inputs[0] 'x'", "FP32 does not belong in fp64_contents"),
        (message(1, fp32_contents=[1], bool_contents=[True]), "inputs[0] 'x'", "bool_contents"),
        (message(1, datatype="FP16"), "inputs[0] 'x'", "no typed contents"),
        (message(1, datatype="FP16", fp32_contents=[1]), "inputs[0] 'x'", "FP16 does not belong"),
        (message(1, datatype="INT8", int_contents=[128]), "inputs[0] 'x'", "outside INT8 (-128"),
        (message(1, datatype="UINT16", uint_contents=[2**16]), "inputs[0] 'x'", "outside UINT16"),
        (message(1, datatype="BOOL", raw=(b"\x02",)), "inputs[0] 'x'", "must be 0 or 1"),
        (message(1, datatype="BYTES", raw=(b"\x09\0\0\0a",)), "inputs[0] 'x'", "runs past"),
        (message(1, datatype="BYTES", raw=(b"\0\0\0\0a",)), "inputs[0] 'x'", "bytes are left"),
        (message(2**31, datatype="BYTES", raw=(b"",)), "inputs[0] 'x'", "need at least"),
        (with_parameter(), "inputs[0] 'x' parameter 'p'", "has no value"),
        (asking_for_nothing(), "outputs[0]", "must have a 'name'"),
    ],
)
def test_a_malformed_request_is_refused_with_its_place(bad: Any, place: str, what: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        decode_request(bad)
    assert caught.value.where == place
    assert what in str(caught.value)


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\x05abc", b"\x0a\x01\xff"])
def test_bytes_that_are_no_message(data: bytes) -> None:
    with pytest.raises(InvalidInputError, match="message: not a ModelInferRequest"):
        parse(messages.ModelInferRequest, data)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        decode_request(parse(messages.ModelInferRequest, data))
    except InvalidInputError as error:
        assert error.where
