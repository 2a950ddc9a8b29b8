import asyncio
import socket
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import CollectorRegistry

from davy.core.clock import SystemClock
from davy.core.errors import (
    ConflictError,
    DavyError,
    DeadlineError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    OverloadedError,
    PermanentError,
    UnavailableError,
)
from davy.packaging.package import Package
from davy.predictor import grpc_server
from davy.predictor.catalogue import Catalogue, Models, Served
from davy.predictor.families import MetricFamilies
from davy.predictor.grpc_server import SERVICE, GrpcServer, refusal
from davy.predictor.metrics import PredictorMetrics
from davy.predictor.model import Model
from davy.predictor.payload import Exchange
from davy.predictor.plane import DataPlane
from davy.predictor.validation import InputPolicy
from davy.predictor.verify import check_port
from davy.protocol import open_inference_pb2 as messages
from davy.protocol.grpc_codec import decode_response, encode_request
from davy.protocol.tensors import Tensor, tensor
from davy.protocol.v2 import InferRequest
from davy.protocol.v2 import decode_request as decode_http_request
from davy.protocol.v2 import decode_response as decode_http_response

MAX_BYTES = 50_000
COLUMNS = {
    "kind": np.array([0, 5]),
    "amount": np.array([1, 99], np.float32),
    "visits": np.array([1, 2], np.float32),
    "channel": np.array([1, 3]),
}


def question(raw: bool = True, **fields: Any) -> Any:
    inputs = tuple(tensor(name, data) for name, data in COLUMNS.items())
    return encode_request(InferRequest(inputs, **fields), "tiny", raw=raw)


class RecordingSink:
    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []

    def wants(self, request_id: str) -> bool:
        return True

    def put(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)


class Bench:
    """A gRPC server over the tiny model, in the test's own event loop, and a client of it."""

    def __init__(self, server: GrpcServer, channel: Any, models: Models) -> None:
        self.server = server
        self.channel = channel
        self.models = models

    def call(self, method: str, request: Any, **options: Any) -> Any:
        answer = getattr(messages, f"{method}Response")
        stub = self.channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=lambda m: m if isinstance(m, bytes) else m.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        return stub(request, **options)


Scenario = Callable[[Bench], Awaitable[None]]


@pytest.fixture
def sink() -> RecordingSink:
    return RecordingSink()


@pytest.fixture
def run(
    package: Package, model: Model, registry: CollectorRegistry, sink: RecordingSink
) -> Callable[[Scenario], None]:
    """Run a scenario with a server."""
    ready = [True]
    metrics = PredictorMetrics(MetricFamilies(registry), model.contract, model.identity)
    plane = DataPlane(model, InputPolicy(model.contract.inputs), metrics)
    models = Models(Catalogue((Served(plane, sink, package.path),)))

    async def go(scenario: Scenario) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        server = GrpcServer(
            models,
            clock=SystemClock(),
            address=address,
            max_message_bytes=MAX_BYTES,
            ready=lambda: ready[0],
        )
        await server.start()
        try:
            async with grpc.aio.insecure_channel(address) as channel:
                await scenario(Bench(server, channel, models))
        finally:
            await server.close()

    return lambda scenario: asyncio.run(asyncio.wait_for(go(scenario), 30))


def outcomes(registry: CollectorRegistry) -> dict[str, float]:
    return {
        sample.labels["outcome"]: sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "davy_requests_total" and sample.value
    }


async def refused(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


@pytest.mark.parametrize("raw", [True, False])
def test_scores_are_the_models_and_contents_are_as_asked(
    run: Any, tiny: ModuleType, model: Model, registry: CollectorRegistry, raw: bool
) -> None:
    async def scenario(bench: Bench) -> None:
        call = bench.call("ModelInfer", question(raw, id="r1"))
        answer = await call
        assert bool(answer.raw_output_contents) == raw
        response = decode_response(answer)
        version = model.contract.version
        assert (response.id, response.model_version) == ("r1", version)
        assert ("davy-model-version", version) in tuple(await call.trailing_metadata())
        np.testing.assert_allclose(response.outputs[0].data, tiny.expected_scores(COLUMNS), 1e-6)

    run(scenario)
    assert outcomes(registry) == {"ok": 1}


def test_what_a_get_answers_over_http(run: Any, model: Model) -> None:
    version = model.contract.version

    async def scenario(bench: Bench) -> None:
        assert (await bench.call("ServerLive", messages.ServerLiveRequest())).live
        assert (await bench.call("ServerReady", messages.ServerReadyRequest())).ready
        server = await bench.call("ServerMetadata", messages.ServerMetadataRequest())
        assert server.name == "davy"
        asked = messages.ModelReadyRequest(name="tiny", version=version)
        assert (await bench.call("ModelReady", asked)).ready
        found = await bench.call("ModelMetadata", messages.ModelMetadataRequest(name="tiny"))
        assert (found.name, list(found.versions)) == ("tiny", [version])
        assert [(i.name, i.datatype, list(i.shape)) for i in found.inputs[:2]] == [
            ("kind", "INT64", [-1]),
            ("amount", "FP32", [-1]),
        ]
        assert [output.name for output in found.outputs] == ["score"]
        for asked in ({"name": "other"}, {"name": "tiny", "version": "0"}):
            for method in ("ModelReady", "ModelMetadata"):
                request = getattr(messages, f"{method}Request")(**asked)
                error = await refused(bench.call(method, request))
                assert error.code() is grpc.StatusCode.NOT_FOUND
        error = await refused(bench.call("ModelReady", b"\xff"))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT

    run(scenario)


@pytest.mark.parametrize(
    ("error", "code", "wait"),
    [
        (InvalidInputError("x", where="input 'a'"), "INVALID_ARGUMENT", None),
        (NotFoundError("x"), "NOT_FOUND", None),
        (ConflictError("x"), "FAILED_PRECONDITION", None),
        (IntegrityError("x"), "FAILED_PRECONDITION", None),
        (DeadlineError("x"), "DEADLINE_EXCEEDED", None),
        (UnavailableError("x"), "UNAVAILABLE", "1"),
        (OverloadedError("x", delay=2.5), "RESOURCE_EXHAUSTED", "3"),
        (PermanentError("x"), "INTERNAL", None),
    ],
)
def test_the_status_of_every_error(error: DavyError, code: str, wait: str | None) -> None:
    told = refusal(error)
    assert told.code is grpc.StatusCode[code]
    assert told.details == str(error)
    assert dict(told.metadata).get("retry-after") == wait


@pytest.mark.parametrize("early", [True, False])
def test_an_overloaded_server_says_when_to_come_back(
    run: Any,
    model: Model,
    registry: CollectorRegistry,
    monkeypatch: pytest.MonkeyPatch,
    early: bool,
) -> None:
    def full_stand_in(*_: Any) -> Any:
        raise OverloadedError("too much waits", delay=0.25)

    if early:
        monkeypatch.setattr(DataPlane, "admit", full_stand_in)
    else:
        monkeypatch.setattr(grpc_server, "execute", full_stand_in)

    async def scenario(bench: Bench) -> None:
        error = await refused(bench.call("ModelInfer", question()))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert dict(error.trailing_metadata()) == {
            "retry-after": "1",
            "grpc-retry-pushback-ms": "250",
            "davy-model-version": model.contract.version,
        }

    run(scenario)
    assert outcomes(registry) == {"shed": 1}


def test_bad_requests_are_counted_and_unknown_models_are_not(
    run: Any, registry: CollectorRegistry
) -> None:
    async def scenario(bench: Bench) -> None:
        without_inputs = messages.ModelInferRequest(model_name="tiny")
        long = question()
        long.id = "x" * 300
        missing = question()
        del missing.inputs[0], missing.raw_input_contents[0]
        for bad, place in (
            (b"\xff", "message"),
            (without_inputs, "inputs"),
            (long, "id"),
            (missing, "input 'kind'"),
        ):
            error = await refused(bench.call("ModelInfer", bad))
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert error.details().startswith(f"{place}: ")
        other = messages.ModelInferRequest(model_name="other")
        error = await refused(bench.call("ModelInfer", other))
        assert error.code() is grpc.StatusCode.NOT_FOUND

    run(scenario)
    assert outcomes(registry) == {"client_error": 4}


def test_a_fault_of_the_model_is_internal(run: Any, registry: CollectorRegistry) -> None:
    async def scenario(bench: Bench) -> None:
        request = question(id="r7")
        request.raw_input_contents[0] = np.array([6, 6]).tobytes()
        error = await refused(bench.call("ModelInfer", request))
        assert error.code() is grpc.StatusCode.INTERNAL
        assert "could not execute" in error.details()
        assert "request r7" in error.details()

    run(scenario)
    assert outcomes(registry) == {"server_error": 1}


def test_an_unforeseen_error_tells_the_client_nothing(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken_stand_in(*_: Any) -> Any:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(grpc_server, "execute", broken_stand_in)

    async def scenario(bench: Bench) -> None:
        error = await refused(bench.call("ModelInfer", question()))
        assert error.code() is grpc.StatusCode.INTERNAL
        assert "secret" not in error.details()

    run(scenario)


@pytest.mark.parametrize("letter", ["a", "é", "😀"])
def test_a_long_message_still_arrives(run: Any, letter: str) -> None:
    async def scenario(bench: Bench) -> None:
        request = question()
        request.inputs[0].name = letter * 5000
        request.inputs[0].datatype = "FP8"
        error = await refused(bench.call("ModelInfer", request))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert letter * 100 in error.details()

    run(scenario)


def test_a_message_that_is_too_large(run: Any) -> None:
    async def scenario(bench: Bench) -> None:
        request = question()
        request.parameters["padding"].string_param = "x" * MAX_BYTES
        error = await refused(bench.call("ModelInfer", request))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await bench.call("ModelInfer", question())

    run(scenario)


def test_a_call_past_its_deadline_counts_as_a_timeout(
    run: Any, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = asyncio.Event()

    async def slow_stand_in(*_: Any) -> Any:
        try:
            await asyncio.sleep(20)
        finally:
            ended.set()

    monkeypatch.setattr(grpc_server, "execute", slow_stand_in)

    async def scenario(bench: Bench) -> None:
        error = await refused(bench.call("ModelInfer", question(), timeout=0.2))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await asyncio.wait_for(ended.wait(), 5)

    run(scenario)
    assert outcomes(registry) == {"timeout": 1}


def test_a_cancelled_call_stops_and_counts_as_nothing(
    run: Any, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def slow_stand_in(*_: Any) -> Any:
        begun.set()
        try:
            await asyncio.sleep(20)
        finally:
            ended.set()

    monkeypatch.setattr(grpc_server, "execute", slow_stand_in)

    async def scenario(bench: Bench) -> None:
        call = bench.call("ModelInfer", question(), timeout=30)
        await asyncio.wait_for(begun.wait(), 5)
        call.cancel()
        await asyncio.wait_for(ended.wait(), 5)

    run(scenario)
    assert outcomes(registry) == {}


@pytest.mark.parametrize("raw", [True, False])
def test_the_payload_log_is_told_as_over_http(run: Any, sink: RecordingSink, raw: bool) -> None:
    async def scenario(bench: Bench) -> None:
        request = question(raw, id="told")
        request.parameters["source"].string_param = "shop"
        answer = await bench.call("ModelInfer", request)
        (exchange,) = sink.exchanges
        asked = decode_http_request(*exchange.request)
        assert (exchange.id, asked.id, asked.parameters) == ("told", "told", {"source": "shop"})
        for item in asked.inputs:
            np.testing.assert_array_equal(item.data, COLUMNS[item.name])
        (told,) = decode_http_response(*exchange.response).outputs
        (given,) = decode_response(answer).outputs
        assert isinstance(told, Tensor)
        np.testing.assert_array_equal(told.data, given.data)

    run(scenario)


def test_health_follows_the_drain_and_calls_are_still_answered(run: Any) -> None:
    serving = health_pb2.HealthCheckResponse.SERVING
    leaving = health_pb2.HealthCheckResponse.NOT_SERVING

    async def scenario(bench: Bench) -> None:
        stub = health_pb2_grpc.HealthStub(bench.channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert (await watch.read()).status == serving
        bench.server.drain()
        assert (await watch.read()).status == leaving
        for service in ("", SERVICE):
            found = await stub.Check(health_pb2.HealthCheckRequest(service=service))
            assert found.status == leaving
        await bench.call("ModelInfer", question())
        watch.cancel()

    run(scenario)


def test_without_a_model_it_is_not_ready_and_says_so_to_who_watches(run: Any) -> None:
    async def scenario(bench: Bench) -> None:
        stub = health_pb2_grpc.HealthStub(bench.channel)
        watches = [
            stub.Watch(health_pb2.HealthCheckRequest(service=service)) for service in ("", SERVICE)
        ]
        full = bench.models.catalogue
        for catalogue, status in ((full, "SERVING"), (Catalogue(()), "NOT_SERVING")) * 2:
            bench.models.catalogue = catalogue
            for watch in watches:
                found = await asyncio.wait_for(watch.read(), 5)
                assert health_pb2.HealthCheckResponse.ServingStatus.Name(found.status) == status
        for watch in watches:
            watch.cancel()

    run(scenario)


def test_calls_under_way_are_answered_when_the_server_stops(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()
    execute = grpc_server.execute

    async def slow_stand_in(*arguments: Any) -> Any:
        begun.set()
        await asyncio.sleep(0.3)
        return await execute(*arguments)

    monkeypatch.setattr(grpc_server, "execute", slow_stand_in)

    async def scenario(bench: Bench) -> None:
        call = bench.call("ModelInfer", question())
        await asyncio.wait_for(begun.wait(), 5)
        await bench.server.close()
        assert (await call).model_name == "tiny"

    run(scenario)


def test_reflection_shows_the_service(run: Any) -> None:
    async def scenario(bench: Bench) -> None:
        stub = reflection_pb2_grpc.ServerReflectionStub(bench.channel)
        call = stub.ServerReflectionInfo(
            iter(
                [
                    reflection_pb2.ServerReflectionRequest(list_services=""),
                    reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
                ]
            )
        )
        services, file = [answer async for answer in call]
        assert {item.name for item in services.list_services_response.service} == {
            SERVICE,
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
        }
        (serialized,) = file.file_descriptor_response.file_descriptor_proto
        assert serialized == messages.DESCRIPTOR.serialized_pb

    run(scenario)


def test_a_port_that_is_taken_is_refused_though_both_would_share_it() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConflictError, match=f"port {port}: cannot be listened on"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)
    check_port("[::1]", port)
    with pytest.raises(ConflictError, match=r"192\.0\.2\.1 port"):
        check_port("192.0.2.1", port)
