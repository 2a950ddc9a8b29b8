"""The predictor over gRPC as a client sees it: a real process, real sockets, messages as bytes."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from davy.packaging.package import Package
from davy.protocol import open_inference_pb2 as messages
from davy.protocol.grpc_codec import decode_response, encode_request
from davy.protocol.tensors import tensor
from davy.protocol.v2 import InferRequest

pytestmark = pytest.mark.xdist_group("predictor-grpc")

METHOD = "/inference.GRPCInferenceService/ModelInfer"
MAX_BYTES = 200_000
FINE_STATUSES = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
}


def columns(rows: int = 3) -> dict[str, np.ndarray]:
    return {
        "kind": np.arange(rows) % 6,
        "amount": np.linspace(1, 99, rows, dtype=np.float32),
        "visits": np.ones(rows, np.float32),
        "channel": np.full(rows, 2),
    }


def question(rows: int = 3, *, raw: bool = True, **fields: Any) -> Any:
    inputs = tuple(tensor(name, data) for name, data in columns(rows).items())
    return encode_request(InferRequest(inputs, **fields), "tiny", raw=raw)


def caller(channel: Any) -> Any:
    return channel.unary_unary(
        METHOD,
        request_serializer=lambda m: m if isinstance(m, bytes) else m.SerializeToString(),
        response_deserializer=messages.ModelInferResponse.FromString,
    )


@pytest.fixture(scope="module")
def package(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Package:
    return tiny.write_tiny_package(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def server(
    predictor: ModuleType, package: Package, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    port = predictor.free_port()
    chosen = {
        "grpc_host": "127.0.0.1",
        "grpc_port": str(port),
        "max_body_bytes": str(MAX_BYTES),
    }
    folder = tmp_path_factory.mktemp("server")
    with predictor.predictor_server(package.path, folder, chosen) as running:
        yield running.url, f"127.0.0.1:{port}", running.log


@pytest.fixture(scope="module")
def channel(server: Any) -> Iterator[Any]:
    with grpc.insecure_channel(server[1]) as opened:
        yield opened


def outcomes(url: str) -> dict[str, float]:
    return {
        sample.labels["outcome"]: sample.value
        for family in text_string_to_metric_families(httpx.get(f"{url}/metrics").text)
        for sample in family.samples
        if sample.name == "davy_requests_total"
    }


def status(channel: Any, request: Any) -> tuple[grpc.StatusCode, str]:
    try:
        caller(channel)(request, timeout=10)
    except grpc.RpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, ""


@pytest.mark.parametrize("rows", [1, 100, 2500])
@pytest.mark.parametrize("raw", [True, False])
def test_inference(channel: Any, package: Package, tiny: ModuleType, rows: int, raw: bool) -> None:
    answer, call = caller(channel).with_call(question(rows, raw=raw, id="g1"), timeout=10)
    response = decode_response(answer)
    assert (response.id, response.model_version) == ("g1", package.contract.version)
    assert dict(call.trailing_metadata()) == {"davy-model-version": package.contract.version}
    expected = tiny.expected_scores(columns(rows))
    np.testing.assert_allclose(response.outputs[0].data, expected, rtol=1e-6)


def with_raw(index: int, content: bytes) -> Any:
    request = question()
    request.raw_input_contents[index] = content
    return request


def with_shape(*shape: int) -> Any:
    request = question()
    del request.inputs[1].shape[:]
    request.inputs[1].shape.extend(shape)
    return request


def mixed() -> Any:
    request = question()
    request.inputs[1].contents.fp32_contents.extend([1, 2, 3])
    return request


def partly_raw() -> Any:
    request = question()
    del request.raw_input_contents[3]
    request.inputs[3].contents.int64_contents.extend([1, 2, 3])
    return request


def with_datatype(datatype: str) -> Any:
    request = question()
    request.inputs[1].datatype = datatype
    return request


@pytest.mark.parametrize(
    ("request_", "place"),
    [
        (with_raw(1, b"12345"), "inputs[1] 'amount'"),
        (with_raw(1, b""), "inputs[1] 'amount'"),
        (with_raw(1, b"x" * 1000), "inputs[1] 'amount'"),
        (mixed(), "inputs[1] 'amount'"),
        (partly_raw(), "raw_input_contents"),
        (with_shape(-3), "inputs[1] 'amount' shape"),
        (with_shape(2**31), "inputs[1] 'amount'"),
        (with_shape(2**62, 2**62), "inputs[1] 'amount'"),
        (with_shape(3, 1), "input 'amount'"),
        (with_shape(), "inputs[1] 'amount'"),
        (with_datatype("FP8"), "inputs[1] 'amount' datatype"),
        (with_datatype("BYTES"), "inputs[1] 'amount'"),
        (with_datatype("INT32"), "input 'amount'"),
        (with_raw(3, np.array([1, 2, 9]).tobytes()), "input 'channel' row 2"),
        (with_raw(1, np.array([1, np.nan, 2], np.float32).tobytes()), "input 'amount' row 1"),
        (question(0), "input 'kind'"),
        (question(id="x" * 300), "id"),
        (b"\x0a\xff", "message"),
        (b"\x0a\x02\xc3\x28", "message"),
    ],
)
def test_bad_input_is_the_clients_fault_and_has_a_place(
    channel: Any, request_: Any, place: str
) -> None:
    code, details = status(channel, request_)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details.startswith(f"{place}: ")
    assert status(channel, question()) == (grpc.StatusCode.OK, "")


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_damaged_messages_are_refused_and_nothing_else(channel: Any, data: st.DataObject) -> None:
    content = bytearray(question(raw=data.draw(st.booleans())).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    code, details = status(channel, bytes(content))
    # A damaged category may be one that the contract lets through and the model cannot execute.
    assert code in FINE_STATUSES or "could not execute" in details


def test_unknown_models_and_what_is_too_large(channel: Any) -> None:
    request = question()
    request.model_version = "0"
    assert status(channel, request)[0] is grpc.StatusCode.NOT_FOUND
    request.model_name = "other"
    assert status(channel, request)[0] is grpc.StatusCode.NOT_FOUND
    assert status(channel, b"x" * (MAX_BYTES + 1))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert status(channel, question()) == (grpc.StatusCode.OK, "")


def test_both_protocols_count_in_the_same_metrics(server: Any, channel: Any) -> None:
    before = outcomes(server[0])
    status(channel, question())
    status(channel, with_shape(-1))
    httpx.post(f"{server[0]}/v2/models/tiny/infer", content=b"{")
    after = outcomes(server[0])
    changes = {key: after[key] - before[key] for key in after if after[key] != before[key]}
    assert changes == {"ok": 1, "client_error": 2}


def test_a_port_that_is_taken_ends_the_start(
    predictor: ModuleType, package: Package, server: Any, tmp_path: Path
) -> None:
    port = server[1].rpartition(":")[2]
    chosen = {"grpc_host": "127.0.0.1", "grpc_port": port}
    with (
        pytest.raises(RuntimeError, match=f"port {port}: cannot be listened on"),
        predictor.predictor_server(package.path, tmp_path, chosen),
    ):
        pass


def test_two_workers_share_the_port(
    predictor: ModuleType, package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = tmp_path / "bentoml.yaml"
    configuration.write_text("services:\n  davy-predictor:\n    workers: 2\n")
    monkeypatch.setenv("BENTOML_CONFIG", str(configuration))
    port = predictor.free_port()
    chosen = {"grpc_host": "127.0.0.1", "grpc_port": str(port)}
    with predictor.predictor_server(package.path, tmp_path / "server", chosen) as running:
        deadline = time.monotonic() + 60
        while running.log.read_text().count('"event": "listening"') < 2:
            assert time.monotonic() < deadline, "the second worker does not listen"
            time.sleep(0.1)
        for _ in range(20):
            # Of one process, gRPC would reuse a connection to an address.
            options = [("grpc.use_local_subchannel_pool", 1)]
            with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as connection:
                assert status(connection, question()) == (grpc.StatusCode.OK, "")
        # What the worker that is not asked counted comes a moment later.
        deadline = time.monotonic() + 10
        while outcomes(running.url)["ok"] < 20 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert outcomes(running.url)["ok"] == 20


def test_sigterm_tells_clients_to_leave_and_ends_no_call_half_way(
    predictor: ModuleType, package: Package, tmp_path: Path
) -> None:
    port = predictor.free_port()
    chosen = {"grpc_host": "127.0.0.1", "grpc_port": str(port), "drain_seconds": "1"}

    async def load(address: str, left: asyncio.Event) -> list[grpc.StatusCode]:
        """Call one after the other until told to leave."""
        codes = []
        async with grpc.aio.insecure_channel(address) as channel:
            call = caller(channel)
            while not left.is_set():
                try:
                    await call(question(50), timeout=10)
                    codes.append(grpc.StatusCode.OK)
                except grpc.aio.AioRpcError as error:
                    codes.append(error.code())
        return codes

    async def go(running: Any) -> list[grpc.StatusCode]:
        address = f"127.0.0.1:{port}"
        left = asyncio.Event()
        loads = [asyncio.create_task(load(address, left)) for _ in range(4)]
        async with grpc.aio.insecure_channel(address) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
            await asyncio.sleep(0.5)
            running.terminate()
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            # A balancer takes a moment, during which calls still come.
            await asyncio.sleep(0.4)
            left.set()
            return [code for codes in await asyncio.gather(*loads) for code in codes]

    with predictor.predictor_server(package.path, tmp_path, chosen) as running:
        codes = asyncio.run(go(running))
        assert running.process.wait(20) == 0
    assert len(codes) > 50
    assert set(codes) == {grpc.StatusCode.OK}
