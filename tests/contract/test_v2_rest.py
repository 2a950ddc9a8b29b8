"""The predictor as clients, Prometheus and the detector see it: a real process, real sockets."""

import asyncio
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from davy.packaging.package import Package
from davy.protocol.events import REQUEST, RESPONSE, PayloadEvent, decode_batch
from davy.protocol.tensors import tensor
from davy.protocol.v2 import (
    InferRequest,
    RequestedOutput,
    decode_request,
    decode_response,
    encode_request,
)

pytestmark = pytest.mark.xdist_group("predictor")

INFER = "/v2/models/tiny/infer"
BINARY = {"content-type": "application/octet-stream"}


def columns(rows: int = 3, kind: int = 1) -> dict[str, np.ndarray]:
    return {
        "kind": np.full(rows, kind),
        "amount": np.linspace(1, 99, rows, dtype=np.float32),
        "visits": np.ones(rows, np.float32),
        "channel": np.full(rows, 2),
    }


def content(data: dict[str, np.ndarray], **fields: Any) -> bytes:
    inputs = tuple(tensor(name, array) for name, array in data.items())
    return encode_request(InferRequest(inputs, **fields)).body


class StandInDetector:
    """Takes payload events on a socket of its own, or hangs."""

    def __init__(self) -> None:
        self.events: list[PayloadEvent] = []
        self.hangs = threading.Event()
        self.released = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if outer.hangs.is_set():
                    outer.released.wait(60)
                outer.events += decode_batch(body)
                self.send_response(202)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def package(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Package:
    return tiny.write_tiny_package(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def detector() -> Iterator[StandInDetector]:
    stand_in = StandInDetector()
    yield stand_in
    stand_in.close()


@pytest.fixture(scope="module")
def server(
    predictor: ModuleType,
    package: Package,
    detector: StandInDetector,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Any]:
    settings = {
        "payload_url": detector.url,
        "payload_interval_seconds": "0.05",
        "payload_timeout_seconds": "0.5",
        "payload_queue": "50",
        "service_name": "tiny-service",
        "service_namespace": "shop",
        "max_body_bytes": "200000",
    }
    with predictor.predictor_server(
        package.path, tmp_path_factory.mktemp("server"), settings
    ) as running:
        yield running


@pytest.fixture
def client(server: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=10) as connection:
        yield connection


def samples(client: httpx.Client, name: str) -> dict[tuple[str, ...], float]:
    """Return the values of a metric by its labels other than model and version."""
    text = client.get("/metrics").text
    return {
        tuple(v for k, v in sorted(s.labels.items()) if k not in ("model", "version")): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
        if s.name == name
    }


def wait_for(condition: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v2", {"name": "davy"}),
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/tiny", {"name": "tiny", "platform": "onnxruntime_onnx"}),
        ("/v2/models/tiny/ready", {"name": "tiny", "ready": True}),
        ("/v2/models/tiny/versions/{version}", {"name": "tiny"}),
        ("/v2/models/tiny/versions/{version}/ready", {"ready": True}),
    ],
)
def test_every_get_route(
    client: httpx.Client, package: Package, path: str, expected: dict[str, Any]
) -> None:
    answer = client.get(path.format(version=package.contract.version))
    assert answer.status_code == 200
    assert expected.items() <= answer.json().items()
    assert answer.headers["davy-model-version"] == package.contract.version


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/docs.json"])
def test_the_rest_is_bentos(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 200


@pytest.mark.parametrize("versioned", [False, True])
def test_json_inference(
    client: httpx.Client, package: Package, tiny: ModuleType, versioned: bool
) -> None:
    path = f"/v2/models/tiny/versions/{package.contract.version}/infer" if versioned else INFER
    answer = client.post(path, content=content(columns(), id="json-1"))
    assert answer.status_code == 200
    response = decode_response(answer.content)
    assert (response.id, response.model_version) == ("json-1", package.contract.version)
    np.testing.assert_allclose(response.outputs[0].data, tiny.expected_scores(columns()), rtol=1e-6)


@pytest.mark.parametrize("rows", [1, 100, 2500])
def test_binary_inference(client: httpx.Client, tiny: ModuleType, rows: int) -> None:
    data = columns(rows)
    inputs = tuple(tensor(name, array) for name, array in data.items())
    request = InferRequest(inputs, outputs=(RequestedOutput("score", True),))
    body, header_length = encode_request(request, binary=True)
    headers = {**BINARY, "Inference-Header-Content-Length": str(header_length)}
    answer = client.post(INFER, content=body, headers=headers)
    assert answer.status_code == 200
    length = int(answer.headers["inference-header-content-length"])
    found = decode_response(answer.content, length).outputs[0].data
    np.testing.assert_allclose(found, tiny.expected_scores(data), rtol=1e-6)


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "message"),
    [
        (INFER, b"{", {}, 400, "not JSON"),
        (INFER, content({"kind": np.array([1])}), {}, 400, "input 'amount': is missing"),
        (INFER, content(columns() | {"channel": np.array([1, 2, 9])}), {}, 400, "row 2"),
        ("/v2/models/other/infer", b"{}", {}, 404, "no such model"),
        ("/v2/models/tiny/versions/0/infer", b"{}", {}, 404, "no such version"),
        (INFER, b" " * 200_001, {}, 413, "larger than 200000 bytes"),
        (INFER, b"{}", {"content-type": "text/csv"}, 415, "text/csv"),
        (INFER, content(columns()), {"davy-timeout-ms": "0"}, 504, "in time"),
        (INFER, content(columns(kind=6)), {}, 500, "could not execute"),
    ],
)
def test_every_error(
    client: httpx.Client,
    package: Package,
    path: str,
    body: bytes,
    headers: dict[str, str],
    status: int,
    message: str,
) -> None:
    answer = client.post(path, content=body, headers=headers)
    assert answer.status_code == status
    assert message in answer.json()["error"]
    assert answer.headers["davy-model-version"] == package.contract.version


def test_metrics_follow_the_requests_from_zero(client: httpx.Client) -> None:
    before = samples(client, "davy_requests_total")
    assert set(before) == {(o,) for o in ("ok", "client_error", "server_error", "timeout", "shed")}
    rows = samples(client, "davy_batch_rows_sum")
    seconds = samples(client, "davy_request_seconds_bucket")
    client.post(INFER, content=content(columns(7)))
    client.post(INFER, content=b"{")
    after = samples(client, "davy_requests_total")
    changes = {key[0]: after[key] - before[key] for key in after if after[key] != before[key]}
    assert changes == {"ok": 1, "client_error": 1}
    assert samples(client, "davy_batch_rows_sum")[()] - rows[()] == 7
    assert samples(client, "davy_request_seconds_bucket")[("+Inf",)] - seconds[("+Inf",)] == 1
    assert ("0.1",) in seconds
    assert samples(client, "davy_model_info")
    # BentoML counts what it answers itself.
    client.get("/docs.json")
    assert any(
        name.startswith("bentoml_service_request") for name in client.get("/metrics").text.split()
    )


def test_our_metrics_are_clean(client: httpx.Client) -> None:
    client.post(INFER, content=content(columns()))
    lines = client.get("/metrics").text.splitlines()
    ours = [x for x in lines if x.startswith(("davy_", "# HELP davy_", "# TYPE davy_"))]
    text = "\n".join(ours) + "\n"
    families = list(text_string_to_metric_families(text))
    assert {family.type for family in families} == {"counter", "histogram", "gauge"}
    assert all(family.documentation.endswith(".") for family in families)
    # The linter itself belongs to Prometheus, which not every machine has.
    if shutil.which("promtool"):
        done = subprocess.run(
            ["promtool", "check", "metrics"],
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_payload_events_arrive(
    client: httpx.Client, package: Package, detector: StandInDetector
) -> None:
    client.post(INFER, content=content(columns(), id="told-1"))
    client.post(INFER, content=content(columns(kind=9), id="failed-1"))
    client.post(INFER, content=content(columns(), id="told-2"))
    wait_for(lambda: sum(event.id == "told-2" for event in detector.events) == 2)
    request, response = (event for event in detector.events if event.id == "told-1")
    assert (request.type, response.type) == (REQUEST, RESPONSE)
    assert request.version == response.version == package.contract.version
    assert (request.service, request.namespace) == ("tiny-service", "shop")
    assert request.sample_rate == 1.0
    sent = decode_request(request.body, request.header_length)
    assert [item.name for item in sent.inputs] == list(columns())
    assert decode_response(response.body, response.header_length).id == "told-1"
    assert "failed-1" not in {event.id for event in detector.events}


def test_a_hung_detector_delays_nobody(client: httpx.Client, detector: StandInDetector) -> None:
    dropped = samples(client, "davy_payload_events_dropped_total")
    answered = samples(client, "davy_requests_total")[("ok",)]
    detector.hangs.set()
    try:
        waits = []
        for number in range(300):
            started = time.perf_counter()
            answer = client.post(INFER, content=content(columns(), id=f"hung-{number}"))
            waits.append(time.perf_counter() - started)
            assert answer.status_code == 200

        def lost() -> dict[str, float]:
            now = samples(client, "davy_payload_events_dropped_total")
            return {key[0]: now[key] - dropped[key] for key in now if now[key] != dropped[key]}

        wait_for(lambda: lost().get("timeout", 0) > 0)
    finally:
        detector.hangs.clear()
        detector.released.set()
    # A delayed request would have waited for the post's limit of 0.5 s.
    assert np.quantile(waits, 0.99) < 0.25
    assert lost()["queue_full"] > 0
    assert samples(client, "davy_requests_total")[("ok",)] - answered == 300
    client.post(INFER, content=content(columns(), id="told-again"))
    wait_for(lambda: any(event.id == "told-again" for event in detector.events))


def test_two_predictors_side_by_side_count_for_themselves(
    predictor: ModuleType, tiny: ModuleType, server: Any, client: httpx.Client, tmp_path: Path
) -> None:
    other = tiny.write_tiny_package(tmp_path, weight=0.05)
    with predictor.predictor_server(other.path, tmp_path / "server") as second:
        for _ in range(5):
            httpx.post(second.url + INFER, content=content(columns()))
        mine = client.get("/metrics").text
        theirs = httpx.get(second.url + "/metrics").text
    assert other.contract.version not in mine
    assert 'outcome="ok"' in mine
    line = f'davy_requests_total{{model="tiny",outcome="ok",version="{other.contract.version}"}} 5'
    assert line in theirs


async def _load(url: str, statuses: list[int]) -> None:
    """Send requests one after the other, and leave when the server asks for it."""
    body = content(columns(50))
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        while True:
            answer = await client.post(INFER, content=body)
            statuses.append(answer.status_code)
            if answer.headers.get("connection") == "close":
                return


def test_sigterm_under_load_loses_no_request(
    predictor: ModuleType, package: Package, tmp_path: Path
) -> None:
    statuses: list[int] = []
    # Time enough to be asked whether it is ready, however busy the machine is.
    with predictor.predictor_server(package.path, tmp_path, {"drain_seconds": "4"}) as running:

        async def go() -> int:
            clients = [asyncio.create_task(_load(running.url, statuses)) for _ in range(8)]
            async with httpx.AsyncClient(base_url=running.url, timeout=30) as client:
                while len(statuses) < 100:
                    await asyncio.sleep(0.01)
                running.terminate()
                await asyncio.wait(clients, return_when=asyncio.FIRST_COMPLETED)
                ready = (await client.get("/v2/health/ready")).status_code
            await asyncio.gather(*clients)
            return ready

        ready = asyncio.run(asyncio.wait_for(go(), 60))
        assert running.process.wait(20) == 0
    assert set(statuses) == {200}
    assert ready == 503


def test_a_provider_that_the_runtime_lacks_ends_the_start(
    predictor: ModuleType, package: Package, tmp_path: Path
) -> None:
    with (
        pytest.raises(RuntimeError, match="'CUDAExecutionProvider' is not available") as caught,
        predictor.predictor_server(
            package.path, tmp_path, {"providers": '["CUDAExecutionProvider"]'}
        ),
    ):
        pass
    # Once, not at every try of a supervisor that starts what fails again.
    assert str(caught.value).count("is not available") == 1
    assert "Traceback" not in str(caught.value)


def test_a_damaged_package_is_never_served(
    predictor: ModuleType, tiny: ModuleType, tmp_path: Path
) -> None:
    damaged = tiny.write_tiny_package(tmp_path)
    path = damaged.path / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with (
        pytest.raises(RuntimeError, match=r"model\.onnx: sha256 does not match"),
        predictor.predictor_server(damaged.path, tmp_path / "server"),
    ):
        pass
