"""Our codecs against KServe's own, over generated tensors, in both directions and both protocols.

That both are in one process is part of the test: our messages must not meet those of KServe.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from davy.protocol import grpc_codec as ours
from davy.protocol import open_inference_pb2 as messages
from davy.protocol.tensors import DTYPES, Tensor
from davy.protocol.v2 import (
    InferRequest,
    InferResponse,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)

# One side at least: KServe's codec takes a tensor without elements for one without data.
SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4)
QUICK = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def kserve() -> SimpleNamespace:
    """Return KServe's codec; to import it takes seconds."""
    from kserve.protocol import infer_type
    from kserve.protocol.grpc import grpc_predict_v2_pb2

    return SimpleNamespace(types=infer_type, messages=grpc_predict_v2_pb2)


@st.composite
def tensors(draw: Any, *, json: bool = False) -> Tensor:
    # KServe refuses FP16 in JSON, and JSON has no infinity.
    datatypes = sorted(DTYPES.keys() - ({"FP16"} if json else set()))
    datatype = draw(st.sampled_from(datatypes))
    dtype = DTYPES[datatype]
    shape = draw(SHAPES)
    if datatype == "BYTES":
        # Its JSON has no other bytes than those of a text.
        elements: Any = st.text(max_size=6).map(str.encode)
    elif dtype.kind == "f":
        elements = hnp.from_dtype(dtype, allow_nan=not json, allow_infinity=not json)
    else:
        elements = hnp.from_dtype(dtype)
    data = draw(hnp.arrays(dtype, shape, elements=elements, fill=st.nothing()))
    name = draw(st.text("abcdef_0123é", min_size=1, max_size=8))
    return Tensor(name, datatype, shape, data)


def several(**options: bool) -> st.SearchStrategy[tuple[Tensor, ...]]:
    return st.lists(
        tensors(**options), min_size=1, max_size=4, unique_by=lambda item: item.name
    ).map(tuple)


def theirs(kserve: Any, items: tuple[Tensor, ...], kind: str, *, binary: bool) -> list[Any]:
    """Return tensors as KServe's `kind` objects."""
    made = []
    for item in items:
        made.append(getattr(kserve.types, kind)(item.name, list(item.shape), item.datatype))
        made[-1].set_data_from_numpy(item.data, binary_data=binary)
    return made


def assert_same(found: Any, expected: tuple[Tensor, ...]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one.name, one.datatype, tuple(one.shape)) == (
            other.name,
            other.datatype,
            other.shape,
        )
        array = one.data if isinstance(one, Tensor) else one.as_numpy()
        if other.datatype == "BYTES" and not isinstance(one, Tensor):
            # From JSON, KServe gives texts.
            array = np.vectorize(lambda v: v.encode() if isinstance(v, str) else v, [object])(array)
        np.testing.assert_array_equal(array, other.data)


@QUICK
@given(st.data(), st.booleans())
def test_we_read_its_http_requests(kserve: Any, data: st.DataObject, binary: bool) -> None:
    inputs = data.draw(several(json=not binary))
    made = theirs(kserve, inputs, "InferInput", binary=binary)
    body, length = kserve.types.InferRequest("m", made, request_id="7").to_rest()
    found = decode_request(orjson.dumps(body) if isinstance(body, dict) else body, length)
    assert found.id == "7"
    assert_same(found.inputs, inputs)


@QUICK
@given(st.data(), st.booleans())
def test_it_reads_our_http_requests(kserve: Any, data: st.DataObject, binary: bool) -> None:
    inputs = data.draw(several(json=not binary))
    body, length = encode_request(InferRequest(inputs, id="7"), binary=binary)
    found = kserve.types.InferRequest.from_bytes(body, length or len(body), "m")
    assert found.id == "7"
    assert_same(found.inputs, inputs)


@QUICK
@given(st.data())
def test_it_reads_our_http_responses(kserve: Any, data: st.DataObject) -> None:
    outputs = data.draw(several(json=True))
    binary = data.draw(st.sets(st.sampled_from([item.name for item in outputs])))
    body, length = encode_response(InferResponse("m", "1", outputs, "7"), binary=binary)
    found = kserve.types.InferResponse.from_bytes(body, length or len(body))
    assert (found.model_name, found.id) == ("m", "7")
    assert_same(found.outputs, outputs)


@QUICK
@given(several(json=True), st.booleans())
def test_we_read_its_http_responses(kserve: Any, outputs: tuple[Tensor, ...], binary: bool) -> None:
    made = theirs(kserve, outputs, "InferOutput", binary=binary)
    response = kserve.types.InferResponse("7", "m", made, model_version="1")
    body, length = response.to_rest()
    found = decode_response(orjson.dumps(body) if isinstance(body, dict) else body, length)
    assert (found.model_name, found.model_version, found.id) == ("m", "1", "7")
    assert_same(found.outputs, outputs)


@QUICK
@given(several(), st.booleans())
def test_we_read_its_grpc_requests(kserve: Any, inputs: tuple[Tensor, ...], raw: bool) -> None:
    # Typed, it has no place for FP16, and no way to mix.
    raw = raw or any(item.datatype == "FP16" for item in inputs)
    made = theirs(kserve, inputs, "InferInput", binary=raw)
    sent = kserve.types.InferRequest("m", made, request_id="7").to_grpc().SerializeToString()
    found = ours.decode_request(ours.parse(messages.ModelInferRequest, sent))
    assert found.id == "7"
    assert_same(found.inputs, inputs)


@QUICK
@given(several(), st.booleans())
def test_it_reads_our_grpc_requests(kserve: Any, inputs: tuple[Tensor, ...], raw: bool) -> None:
    sent = ours.encode_request(InferRequest(inputs, id="7"), "m", raw=raw).SerializeToString()
    message = kserve.messages.ModelInferRequest.FromString(sent)
    found = kserve.types.InferRequest.from_grpc(message)
    assert (found.id, found.model_name) == ("7", "m")
    assert_same(found.inputs, inputs)


@QUICK
@given(several(), st.booleans())
def test_it_reads_our_grpc_responses(kserve: Any, outputs: tuple[Tensor, ...], raw: bool) -> None:
    response = InferResponse("m", "1", outputs, "7", {"outlier": 0.5})
    sent = ours.encode_response(response, raw=raw).SerializeToString()
    found = kserve.types.InferResponse.from_grpc(
        kserve.messages.ModelInferResponse.FromString(sent)
    )
    assert (found.id, found.model_name, found.model_version) == ("7", "m", "1")
    assert_same(found.outputs, outputs)


@QUICK
@given(several(), st.booleans())
def test_we_read_its_grpc_responses(kserve: Any, outputs: tuple[Tensor, ...], raw: bool) -> None:
    raw = raw or any(item.datatype == "FP16" for item in outputs)
    made = theirs(kserve, outputs, "InferOutput", binary=raw)
    response = kserve.types.InferResponse("7", "m", made, model_version="1")
    sent = response.to_grpc().SerializeToString()
    found = ours.decode_response(ours.parse(messages.ModelInferResponse, sent))
    assert (found.model_name, found.model_version, found.id) == ("m", "1", "7")
    assert_same(found.outputs, outputs)
