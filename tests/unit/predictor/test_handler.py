import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from structlog.testing import capture_logs

from davy.core.clock import ManualClock
from davy.predictor import handler as handler_module
from davy.predictor.handler import Handler
from davy.predictor.model import Model
from davy.predictor.payload import Exchange
from davy.predictor.segments import Segments
from davy.protocol.tensors import tensor
from davy.protocol.v2 import InferRequest, RequestedOutput, decode_response, encode_request

INFER = "/v2/models/tiny/infer"


def feed(rows: int = 2, **changes: Any) -> dict[str, np.ndarray]:
    columns: dict[str, np.ndarray] = {
        "kind": np.arange(rows) % 6,
        "amount": np.linspace(0, 100, rows, dtype=np.float32),
        "visits": np.full(rows, np.nan, np.float32),
        "channel": np.full(rows, 2),
    }
    return columns | {name: np.array(value) for name, value in changes.items()}


def body(columns: dict[str, np.ndarray], *, binary: bool = False, **fields: Any) -> Any:
    inputs = tuple(tensor(name, data) for name, data in columns.items())
    return encode_request(InferRequest(inputs, **fields), binary=binary)


def call(
    handler: Handler,
    path: str = INFER,
    content: bytes | None = None,
    *,
    method: str = "",
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(handler)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://predictor") as client:
            how = method or ("GET" if content is None else "POST")
            return await client.request(how, path, content=content, headers=headers)

    return asyncio.run(go())


class RecordingSink:
    def __init__(self, *, wanted: bool = True) -> None:
        self.wanted = wanted
        self.exchanges: list[Exchange] = []

    def wants(self, request_id: str) -> bool:
        return self.wanted

    def put(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)


def outcomes(registry: CollectorRegistry) -> dict[str, float]:
    return {
        sample.labels["outcome"]: sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "davy_requests_total" and sample.value
    }


@pytest.mark.parametrize(
    ("content", "headers", "country", "outcome"),
    [
        (body(feed(), parameters={"country": "de"}).body, {}, "de", "ok"),
        (body(feed(), parameters={"country": "fr"}).body, {}, "other", "ok"),
        (
            body(feed(), parameters={"country": "de"}).body,
            {"davy-timeout-ms": "0"},
            "de",
            "timeout",
        ),
        (body(feed(kind=[0.5]), parameters={"country": "de"}).body, {}, "de", "client_error"),
        (b"{", {}, "other", "client_error"),
    ],
)
def test_every_outcome_is_counted_in_its_segment(
    make_handler: Callable[..., Handler],
    registry: CollectorRegistry,
    content: bytes,
    headers: dict[str, str],
    country: str,
    outcome: str,
) -> None:
    call(make_handler(segments=Segments.of({"country": ["de"]})), content=content, headers=headers)
    found = [
        (sample.labels["country"], sample.labels["outcome"])
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "davy_requests_total" and sample.value
    ]
    assert found == [(country, outcome)]


def test_scores_are_the_models(make_handler: Callable[..., Handler], tiny: ModuleType) -> None:
    columns = feed(6)
    answer = call(make_handler(), content=body(columns, id="r1").body)
    assert answer.status_code == 200
    response = decode_response(answer.content)
    np.testing.assert_allclose(response.outputs[0].data, tiny.expected_scores(columns), rtol=1e-6)
    assert (response.id, response.model_name) == ("r1", "tiny")
    assert response.model_version == answer.headers["davy-model-version"]


def test_binary_in_and_binary_out(make_handler: Callable[..., Handler], tiny: ModuleType) -> None:
    columns = feed(6)
    encoded = body(columns, binary=True, outputs=(RequestedOutput("score", True),))
    headers = {
        "content-type": "application/octet-stream",
        "Inference-Header-Content-Length": str(encoded.header_length),
    }
    answer = call(make_handler(), content=encoded.body, headers=headers)
    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers["inference-header-content-length"])
    scores = decode_response(answer.content, length).outputs[0].data
    np.testing.assert_allclose(scores, tiny.expected_scores(columns), rtol=1e-6)


def test_many_rows_are_answered(make_handler: Callable[..., Handler], tiny: ModuleType) -> None:
    columns = feed(3_000)
    encoded = body(columns, binary=True)
    headers = {"Inference-Header-Content-Length": str(encoded.header_length)}
    answer = call(make_handler(), content=encoded.body, headers=headers)
    np.testing.assert_allclose(
        decode_response(answer.content).outputs[0].data, tiny.expected_scores(columns), rtol=1e-6
    )


def test_a_request_without_id_gets_one(make_handler: Callable[..., Handler]) -> None:
    handler = make_handler()
    found = {decode_response(call(handler, content=body(feed()).body).content).id for _ in range(3)}
    assert len(found) == 3
    assert all(found)


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/tiny/ready", {"name": "tiny", "ready": True}),
        ("/v2/models/tiny/versions/{version}/ready", {"name": "tiny", "ready": True}),
    ],
)
def test_health(
    make_handler: Callable[..., Handler], model: Model, path: str, document: dict[str, Any]
) -> None:
    answer = call(make_handler(), path.format(version=model.contract.version))
    assert (answer.status_code, answer.json()) == (200, document)
    assert answer.headers["davy-model-version"] == model.contract.version


def test_metadata(make_handler: Callable[..., Handler], model: Model) -> None:
    handler = make_handler()
    server = call(handler, "/v2").json()
    assert server["extensions"] == ["binary_tensor_data"]
    metadata = call(handler, "/v2/models/tiny").json()
    assert metadata["versions"] == [model.contract.version]
    assert metadata["inputs"][1] == {"name": "amount", "datatype": "FP32", "shape": [-1]}
    assert metadata["outputs"] == [{"name": "score", "datatype": "FP32", "shape": [-1]}]


def test_head_has_the_headers_and_no_body(make_handler: Callable[..., Handler]) -> None:
    answer = call(make_handler(), "/v2/health/live", method="HEAD")
    assert answer.status_code == 200
    assert answer.content == b""


@pytest.mark.parametrize(
    ("path", "method", "status", "message"),
    [
        ("/v2/models/other/infer", "POST", 404, "This server has 'tiny'"),
        ("/v2/models/tiny/versions/1/infer", "POST", 404, "version '1'"),
        ("/v2/models/other", "GET", 404, "no such model"),
        ("/v2/models", "GET", 404, "no such path"),
        ("/v2/models//infer", "POST", 404, "no such path"),
        ("/v2/models/tiny/explode", "POST", 404, "no such path"),
        ("/v2/nothing", "GET", 404, "no such path"),
        ("/v2/models/tiny/infer", "GET", 405, "takes POST"),
        ("/v2/models/tiny", "DELETE", 405, "takes GET, HEAD"),
    ],
)
def test_what_is_not_there(
    make_handler: Callable[..., Handler],
    registry: CollectorRegistry,
    path: str,
    method: str,
    status: int,
    message: str,
) -> None:
    answer = call(make_handler(), path, method=method)
    assert answer.status_code == status
    assert message in answer.json()["error"]
    assert "davy-model-version" in answer.headers
    assert outcomes(registry) == {}


@pytest.mark.parametrize(
    ("content", "headers", "status", "message"),
    [
        (b"{", {}, 400, "not JSON"),
        (b"{}", {"inference-header-content-length": "9"}, 400, "does not fit"),
        (b"{}", {"inference-header-content-length": "-1"}, 400, "inference-header-content-length"),
        (b"{}", {"davy-timeout-ms": "soon"}, 400, "davy-timeout-ms"),
        (b"{}", {"content-type": "text/plain"}, 415, "application/json"),
        (b"{}", {"content-encoding": "gzip"}, 415, "gzip"),
        (b" " * 100_001, {}, 413, "larger than 100000 bytes"),
    ],
)
def test_a_request_that_cannot_be_read(
    make_handler: Callable[..., Handler],
    registry: CollectorRegistry,
    content: bytes,
    headers: dict[str, str],
    status: int,
    message: str,
) -> None:
    answer = call(make_handler(), content=content, headers=headers)
    assert answer.status_code == status
    assert message in answer.json()["error"]
    assert outcomes(registry) == {"client_error": 1}


@pytest.mark.parametrize(
    ("columns", "fields", "message"),
    [
        (feed(channel=[2, 7]), {}, "input 'channel' row 1: 7 is none of the 3 categories"),
        (feed(amount=np.array([1, np.nan], np.float32)), {}, "rule 'missing'"),
        (feed(kind=[1]), {}, "rows"),
        ({"kind": np.array([1])}, {}, "input 'amount': is missing"),
        (feed(), {"outputs": (RequestedOutput("label"),)}, "no such output; it has score"),
        (feed(), {"outputs": (RequestedOutput("score"),) * 2}, "asked for twice"),
        (feed(), {"id": "x" * 257}, "longer than 256"),
    ],
)
def test_a_request_against_the_contract(
    make_handler: Callable[..., Handler],
    registry: CollectorRegistry,
    columns: dict[str, np.ndarray],
    fields: dict[str, Any],
    message: str,
) -> None:
    sink = RecordingSink()
    answer = call(make_handler(sink), content=body(columns, **fields).body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]
    assert outcomes(registry) == {"client_error": 1}
    assert sink.exchanges == []


def test_what_is_flagged_but_cannot_be_executed_is_the_models_fault(
    make_handler: Callable[..., Handler],
    registry: CollectorRegistry,
) -> None:
    sink = RecordingSink()
    with capture_logs() as lines:
        answer = call(make_handler(sink), content=body(feed(kind=[0, 77]), id="r9").body)
    assert answer.status_code == 500
    assert "could not execute" in answer.json()["error"]
    assert "(request r9)" in answer.json()["error"]
    assert "Gather" not in answer.text
    assert outcomes(registry) == {"server_error": 1}
    flagged = {"model": "tiny", "feature": "kind", "rule": "range"}
    flagged["version"] = answer.headers["davy-model-version"]
    assert registry.get_sample_value("davy_input_violations_total", flagged) == 1
    assert sink.exchanges == []
    assert [line["request_id"] for line in lines if line["log_level"] == "error"] == ["r9"]


class SlowModelClock(ManualClock):
    """Every look at it finds the time a second later."""

    def monotonic(self) -> float:
        self.sleep(1)
        return self.elapsed


@pytest.mark.parametrize(("timeout", "status"), [("500", 504), ("60000", 200)])
def test_deadline(
    make_handler: Callable[..., Handler],
    registry: CollectorRegistry,
    timeout: str,
    status: int,
) -> None:
    handler = make_handler(clock=SlowModelClock(datetime(2017, 1, 1, tzinfo=UTC)))
    answer = call(handler, content=body(feed()).body, headers={"davy-timeout-ms": timeout})
    assert answer.status_code == status
    assert outcomes(registry) == {"timeout" if status == 504 else "ok": 1}


def test_a_body_that_does_not_come_in_time_is_a_timeout(
    make_handler: Callable[..., Handler], registry: CollectorRegistry
) -> None:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(30)
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"davy-timeout-ms", b"20")]
    scope = {"type": "http", "method": "POST", "path": INFER, "headers": headers}
    asyncio.run(make_handler()(scope, receive, send))
    assert sent[0]["status"] == 504
    assert outcomes(registry) == {"timeout": 1}


class StandInRepositoryApi:
    """Would change something if a body came."""

    async def load(self, _name: str, _body: bytes) -> Any:
        raise AssertionError


@pytest.mark.parametrize("began", [False, True])
@pytest.mark.parametrize(
    ("path", "timeout", "counted"),
    [
        (INFER, None, {"client_error": 1}),
        (INFER, b"60000", {"client_error": 1}),
        ("/v2/repository/models/tiny/load", None, {}),
    ],
)
def test_a_body_that_stops_half_way_is_not_waited_for_endlessly(
    make_handler: Callable[..., Handler],
    registry: CollectorRegistry,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    timeout: bytes | None,
    counted: dict[str, float],
    began: bool,
) -> None:
    monkeypatch.setattr(handler_module, "BODY_SECONDS", 0.05)
    sent: list[dict[str, Any]] = []
    pieces = [{"type": "http.request", "body": b"{", "more_body": True}] if began else []

    async def receive() -> dict[str, Any]:
        if not pieces:
            await asyncio.Event().wait()
        return pieces.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [] if timeout is None else [(b"davy-timeout-ms", timeout)]
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
    handler = make_handler(repository=StandInRepositoryApi())
    asyncio.run(asyncio.wait_for(handler(scope, receive, send), 10))
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]
    assert b"did not come whole" in sent[1]["body"]
    assert outcomes(registry) == counted


@pytest.mark.parametrize("chunk", [1, 7, 10_000])
def test_a_body_in_pieces(make_handler: Callable[..., Handler], chunk: int) -> None:
    content = body(feed()).body
    pieces = [content[i : i + chunk] for i in range(0, len(content), chunk)]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": INFER, "headers": []}
    asyncio.run(make_handler()(scope, receive, send))
    assert sent[0]["status"] == 200


def test_a_body_in_pieces_is_cut_off_at_the_limit(make_handler: Callable[..., Handler]) -> None:
    received = 0
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        nonlocal received
        received += 1
        return {"type": "http.request", "body": b" " * 60_000, "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": INFER, "headers": []}
    asyncio.run(make_handler()(scope, receive, send))
    assert (sent[0]["status"], received) == (413, 2)
    assert (b"connection", b"close") in sent[0]["headers"]


def test_a_client_that_leaves_is_not_counted_and_its_request_ends(
    make_handler: Callable[..., Handler], registry: CollectorRegistry
) -> None:
    messages = [
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": INFER, "headers": []}
    asyncio.run(make_handler()(scope, receive, send))
    assert outcomes(registry) == {}
    # Nobody reads it, but the server wants every request answered.
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]


def test_draining_answers_but_asks_to_leave(make_handler: Callable[..., Handler]) -> None:
    handler = make_handler()
    handler.draining = True
    answer = call(handler, content=body(feed()).body)
    assert answer.status_code == 200
    assert answer.headers["connection"] == "close"
    assert call(handler, "/v2/health/live").status_code == 200
    for path in ("/v2/health/ready", "/v2/models/tiny/ready"):
        answer = call(handler, path)
        assert (answer.status_code, answer.json()["ready"]) == (503, False)


def test_answered_requests_are_told_as_they_came_and_went(
    make_handler: Callable[..., Handler],
) -> None:
    sink = RecordingSink()
    encoded = body(feed(), binary=True, id="r1")
    headers = {"Inference-Header-Content-Length": str(encoded.header_length)}
    answer = call(make_handler(sink), content=encoded.body, headers=headers)
    [exchange] = sink.exchanges
    assert exchange.id == "r1"
    assert exchange.request == encoded
    assert exchange.response.body == answer.content


def test_what_is_not_in_the_sample_is_not_told(make_handler: Callable[..., Handler]) -> None:
    sink = RecordingSink(wanted=False)
    assert call(make_handler(sink), content=body(feed()).body).status_code == 200
    assert sink.exchanges == []


def test_metrics_start_at_zero_and_follow_the_requests(
    make_handler: Callable[..., Handler], registry: CollectorRegistry, model: Model
) -> None:
    handler = make_handler()
    text = generate_latest(registry).decode()
    version = model.contract.version
    for outcome in ("ok", "client_error", "server_error", "timeout", "shed"):
        line = f'davy_requests_total{{model="tiny",outcome="{outcome}",version="{version}"}} 0.0'
        assert line in text
    call(handler, content=body(feed(6, visits=np.full(6, 99, np.float32))).body)
    labels = {"model": "tiny", "version": version}

    def value(name: str, **more: str) -> float | None:
        return registry.get_sample_value(name, {**labels, **more})

    assert value("davy_request_seconds_count") == 1
    assert value("davy_request_seconds_bucket", le="0.1") is not None
    assert value("davy_batch_rows_sum") == 6
    assert value("davy_input_violations_total", feature="visits", rule="range") == 6
    buckets = [value("davy_predictions_total", bucket=b) for b in ("0.2", "0.4", "+Inf", "NaN")]
    assert all(found is not None for found in buckets)
    names = {"0.2", "0.4", "0.6", "0.8", "+Inf", "NaN"}
    assert sum(value("davy_predictions_total", bucket=b) or 0 for b in names) == 6
    info = value("davy_model_info", quantization="fp32", identity=model.identity)
    assert info == 1
    for rule, wrong in (
        ("dtype", feed(visits=np.ones(2, np.float64))),
        ("shape", feed(visits=np.ones(3, np.float32))),
        ("missing", {name: data for name, data in feed().items() if name != "visits"}),
    ):
        assert value("davy_input_violations_total", feature="visits", rule=rule) == 0
        assert call(handler, content=body(wrong).body).status_code == 400
        assert value("davy_input_violations_total", feature="visits", rule=rule) == 1


def test_every_error_is_json(make_handler: Callable[..., Handler]) -> None:
    handler = make_handler()
    for content in (b"", b"[]", b"null", b'{"inputs": 3}', b"\xff\xfe"):
        answer = call(handler, content=content)
        assert answer.status_code == 400
        assert set(orjson.loads(answer.content)) == {"error"}
