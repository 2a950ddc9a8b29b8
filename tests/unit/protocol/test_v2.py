import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from davy.core.errors import InvalidInputError
from davy.protocol.tensors import DTYPES, Tensor, tensor
from davy.protocol.v2 import (
    InferRequest,
    InferResponse,
    RequestedOutput,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)

NUMBERS = [name for name in DTYPES if name != "BYTES"]
NAMES = st.text(min_size=1, max_size=8)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


@st.composite
def tensors(draw: Any, *, infinite: bool, text_only: bool) -> Tensor:
    datatype = draw(st.sampled_from(sorted(DTYPES)))
    shape = draw(SHAPES)
    name = draw(NAMES)
    if datatype == "BYTES":
        elements = st.text(max_size=6).map(str.encode) if text_only else st.binary(max_size=6)
        data = draw(hnp.arrays(object, shape, elements=elements, fill=st.nothing()))
        return Tensor(name, datatype, shape, data)
    dtype = DTYPES[datatype]
    if dtype.kind == "f":
        elements = hnp.from_dtype(dtype, allow_nan=True, allow_infinity=infinite)
    else:
        elements = hnp.from_dtype(dtype)
    return Tensor(name, datatype, shape, draw(hnp.arrays(dtype, shape, elements=elements)))


def several(**options: bool) -> st.SearchStrategy[tuple[Tensor, ...]]:
    return st.lists(
        tensors(**options), min_size=1, max_size=4, unique_by=lambda item: item.name
    ).map(tuple)


def assert_same(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    assert [(t.name, t.datatype, t.shape) for t in found] == [
        (t.name, t.datatype, t.shape) for t in expected
    ]
    for one, other in zip(found, expected, strict=True):
        assert one.data.dtype == DTYPES[one.datatype]
        assert one.data.shape == one.shape
        np.testing.assert_array_equal(one.data, other.data)


@given(several(infinite=True, text_only=False), st.text(max_size=10))
def test_binary_request_round_trips(inputs: tuple[Tensor, ...], request_id: str) -> None:
    request = InferRequest(inputs, id=request_id, parameters={"binary_data_output": True})
    encoded = encode_request(request, binary=True)
    found = decode_request(*encoded)
    assert_same(found.inputs, inputs)
    assert found.id == request_id
    assert found.binary("anything")


@given(several(infinite=False, text_only=True))
def test_json_request_round_trips(inputs: tuple[Tensor, ...]) -> None:
    outputs = (RequestedOutput("a", True), RequestedOutput("b"))
    encoded = encode_request(InferRequest(inputs, outputs=outputs, parameters={"k": 1}))
    assert encoded.header_length is None
    found = decode_request(encoded.body)
    assert_same(found.inputs, inputs)
    assert found.outputs == outputs
    assert found.parameters == {"k": 1}
    assert found.binary("a")
    assert not found.binary("b")


@given(several(infinite=False, text_only=True), st.data())
def test_response_round_trips_with_any_mix_of_forms(
    outputs: tuple[Tensor, ...], data: st.DataObject
) -> None:
    binary = data.draw(st.sets(st.sampled_from([item.name for item in outputs])))
    response = InferResponse("m", "v", outputs, id="1", parameters={"p": "q"})
    encoded = encode_response(response, binary=binary)
    assert (encoded.header_length is not None) == bool(binary)
    found = decode_response(*encoded)
    assert_same(found.outputs, outputs)
    assert (found.model_name, found.model_version, found.id) == ("m", "v", "1")
    assert found.parameters == {"p": "q"}


def test_binary_tensors_are_views_where_aligned() -> None:
    data = np.arange(16, dtype=np.float32)
    body, header_length = encode_request(InferRequest((tensor("x", data),)), binary=True)
    assert header_length is not None
    padded = body[:header_length] + b" " * (-header_length % 4) + body[header_length:]
    found = decode_request(padded, header_length + (-header_length % 4)).inputs[0].data
    assert found.base is not None
    assert found.flags.aligned
    np.testing.assert_array_equal(found, data)


@pytest.mark.parametrize("shift", range(8))
def test_an_unaligned_tensor_is_copied_to_an_aligned_place(shift: int) -> None:
    data = np.arange(5, dtype=np.int64)
    body, header_length = encode_request(InferRequest((tensor("x", data),)), binary=True)
    assert header_length is not None
    padded = body[:header_length] + b" " * shift + body[header_length:]
    found = decode_request(padded, header_length + shift).inputs[0].data
    assert found.flags.aligned
    np.testing.assert_array_equal(found, data)


def test_null_and_python_literals_are_nan_and_infinity() -> None:
    head = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[3],"data":'
    null = decode_request(head + b"[1, null, 2]}]}").inputs[0].data
    np.testing.assert_array_equal(null, np.array([1, np.nan, 2], np.float32))
    literal = decode_request(head + b"[1, NaN, -Infinity]}]}").inputs[0].data
    np.testing.assert_array_equal(literal, np.array([1, np.nan, -np.inf], np.float32))


def test_nan_is_written_as_null() -> None:
    output = tensor("score", np.array([0.1, np.nan], np.float32))
    document = orjson.loads(encode_response(InferResponse("m", "v", (output,))).body)
    assert document["outputs"][0]["data"] == [0.1, None]


def test_nested_data_equals_flat_data() -> None:
    item = {"name": "x", "datatype": "INT32", "shape": [2, 3], "data": [[1, 2, 3], [4, 5, 6]]}
    nested = decode_request(json.dumps({"inputs": [item]}).encode())
    item["data"] = [1, 2, 3, 4, 5, 6]
    assert_same(decode_request(json.dumps({"inputs": [item]}).encode()).inputs, nested.inputs)


def test_large_integers_keep_every_digit() -> None:
    item = {"name": "x", "datatype": "UINT64", "shape": [2], "data": [1, 2**64 - 1]}
    found = decode_request(json.dumps({"inputs": [item]}).encode()).inputs[0].data
    assert found.tolist() == [1, 2**64 - 1]


GOOD = {"name": "x", "datatype": "FP32", "shape": [2], "data": [1.0, 2.0]}

MALFORMED = {
    "not JSON": (b"{", "not JSON"),
    "not an object": ([], "must be a JSON object"),
    "no inputs": ({}, "inputs: must be a list"),
    "empty inputs": ({"inputs": []}, "at least one tensor"),
    "no name": ({"inputs": [{}]}, "inputs[0]"),
    "number as id": ({"id": 1, "inputs": [GOOD]}, "id: must be a string"),
    "twice": ({"inputs": [GOOD, GOOD]}, "given twice"),
    "datatype": ({"inputs": [{**GOOD, "datatype": "FLOAT"}]}, "datatype must be one of"),
    "negative shape": ({"inputs": [{**GOOD, "shape": [-1]}]}, "integers >= 0"),
    "true in shape": ({"inputs": [{**GOOD, "shape": [True]}]}, "integers >= 0"),
    "huge shape": ({"inputs": [{**GOOD, "shape": [2**62, 2**62]}]}, "needs"),
    "empty but huge": ({"inputs": [{**GOOD, "shape": [0, 2**63, 9], "data": []}]}, "too large"),
    "many dimensions": ({"inputs": [{**GOOD, "shape": [1] * 17}]}, "at most 16"),
    "too few": ({"inputs": [{**GOOD, "data": [1.0]}]}, "needs 2 elements but data has 1"),
    "no data": ({"inputs": [{**GOOD, "data": None}]}, "no 'data' list"),
    "text": ({"inputs": [{**GOOD, "data": ["1", "2"]}]}, "numbers or null"),
    "true": ({"inputs": [{**GOOD, "data": [True, 1.0]}]}, "numbers or null"),
    "overflow": ({"inputs": [{**GOOD, "data": [1e39, 1.0]}]}, "outside FP32"),
    "ragged": ({"inputs": [{**GOOD, "shape": [2, 1], "data": [[1.0, 2.0], []]}]}, "shape [2, 1]"),
    "nested deeper": ({"inputs": [{**GOOD, "data": [[1.0], [2.0]]}]}, "numbers or null"),
    "fraction": ({"inputs": [{**GOOD, "datatype": "INT8", "data": [1, 1.5]}]}, "integers"),
    "null integer": ({"inputs": [{**GOOD, "datatype": "INT8", "data": [1, None]}]}, "integers"),
    "bounds": ({"inputs": [{**GOOD, "datatype": "UINT8", "data": [1, 256]}]}, "outside UINT8"),
    "number as BYTES": ({"inputs": [{**GOOD, "datatype": "BYTES"}]}, "must be strings"),
    "number as BOOL": ({"inputs": [{**GOOD, "datatype": "BOOL", "data": [0, 1]}]}, "true or false"),
    "parameters": ({"inputs": [{**GOOD, "parameters": []}]}, "must be an object"),
    "binary without header": (
        {"inputs": [{**GOOD, "parameters": {"binary_data_size": 8}}]},
        "Inference-Header-Content-Length",
    ),
    "outputs": ({"inputs": [GOOD], "outputs": [1]}, "outputs[0]"),
    "binary_data": (
        {"inputs": [GOOD], "outputs": [{"name": "y", "parameters": {"binary_data": 1}}]},
        "true or false",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_json_is_an_error_that_says_where(case: str) -> None:
    document, message = MALFORMED[case]
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    with pytest.raises(InvalidInputError) as caught:
        decode_request(body)
    assert message in str(caught.value)


def _binary(item: dict[str, Any], tail: bytes) -> tuple[bytes, int]:
    header = json.dumps({"inputs": [item]}).encode()
    return header + tail, len(header)


@pytest.mark.parametrize(
    ("item", "tail", "message"),
    [
        ({"datatype": "FP32", "shape": [2], "size": 4}, b"1234", "take 8 bytes"),
        ({"datatype": "FP32", "shape": [2], "size": 8}, b"1234", "4 are left"),
        ({"datatype": "FP32", "shape": [1], "size": 4}, b"12345", "5 bytes follow"),
        ({"datatype": "FP32", "shape": [1], "size": -4}, b"1234", ">= 0"),
        ({"datatype": "FP32", "shape": [1], "size": "4"}, b"1234", ">= 0"),
        ({"datatype": "BOOL", "shape": [1], "size": 1}, b"\x02", "0 or 1"),
        ({"datatype": "BYTES", "shape": [1], "size": 4}, b"\x05\0\0\0", "past the tensor's end"),
        ({"datatype": "BYTES", "shape": [9], "size": 4}, b"\0\0\0\0", "at least 36 bytes"),
        ({"datatype": "BYTES", "shape": [1], "size": 5}, b"\0\0\0\0x", "left after 1"),
    ],
)
def test_malformed_binary_is_an_error(item: dict[str, Any], tail: bytes, message: str) -> None:
    size = item.pop("size")
    body, length = _binary({"name": "x", **item, "parameters": {"binary_data_size": size}}, tail)
    with pytest.raises(InvalidInputError) as caught:
        decode_request(body, length)
    assert message in str(caught.value)


@pytest.mark.parametrize("length", [0, -1, 10_000])
def test_a_header_length_that_does_not_fit_is_an_error(length: int) -> None:
    with pytest.raises(InvalidInputError, match="inference-header-content-length"):
        decode_request(json.dumps({"inputs": [GOOD]}).encode(), length)


def test_deep_nesting_is_an_error() -> None:
    with pytest.raises(InvalidInputError):
        decode_request(b"[" * 100_000 + b"NaN")


@given(st.binary(max_size=200), st.none() | st.integers(-5, 300))
def test_random_bytes_give_no_other_error(body: bytes, length: int | None) -> None:
    with pytest.raises(InvalidInputError):
        decode_request(body, length)


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=5)
    | st.sampled_from(["FP32", "INT64", "BYTES", "BOOL", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "name",
                    "datatype",
                    "shape",
                    "data",
                    "parameters",
                    "binary_data_size",
                    "inputs",
                    "id",
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


@given(
    st.fixed_dictionaries(
        {
            "inputs": st.lists(
                st.fixed_dictionaries(
                    {"name": st.just("x") | JUNK},
                    optional={
                        "datatype": st.sampled_from(sorted(DTYPES)) | JUNK,
                        "shape": st.lists(st.integers(0, 3), max_size=3) | JUNK,
                        "data": st.lists(JUNK, max_size=3) | JUNK,
                        "parameters": JUNK,
                    },
                )
                | JUNK,
                max_size=3,
            )
        },
        optional={"id": JUNK, "outputs": JUNK, "parameters": JUNK},
    ),
    st.binary(max_size=40),
    st.booleans(),
)
def test_a_damaged_document_decodes_or_is_invalid(document: Any, tail: bytes, binary: bool) -> None:
    header = json.dumps(document).encode("utf-8", "surrogatepass")
    try:
        request = decode_request(
            header + tail if binary else header, len(header) if binary else None
        )
    except InvalidInputError:
        return
    for item in request.inputs:
        assert item.data.dtype == DTYPES[item.datatype]
        assert item.data.shape == item.shape


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (tensor("x", np.array([np.inf], np.float32)), "infinite"),
        (Tensor("x", "BYTES", (1,), np.array([b"\xff"], object)), "UTF-8"),
        (Tensor("x", "FP32", (1,), np.zeros(1)), "does not fit"),
        (Tensor("x", "FP32", (2,), np.zeros(1, np.float32)), "does not fit"),
    ],
)
def test_what_json_cannot_hold_is_an_error(item: Tensor, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        encode_response(InferResponse("m", "v", (item,)))


def test_a_dtype_without_a_datatype_is_an_error() -> None:
    with pytest.raises(InvalidInputError, match="complex"):
        tensor("x", np.zeros(1, complex))


def test_a_foreign_byte_order_does_not_change_values() -> None:
    data = np.array([1, 2, 3], dtype=">i4")
    with pytest.raises(InvalidInputError, match="does not fit"):
        encode_request(InferRequest((tensor("x", data),)), binary=True)
