"""A detector that hangs, is slow, refuses, or is gone: requests are answered as if it were well."""

import json
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.xdist_group("predictor")

INFER = "/v2/models/tiny/infer"
REQUESTS = 120
# Of one post of the log; longer than any request may take here.
TIMEOUT = 2.0
# Of a slow receiver: several of them fit into the time-out.
SLOW = 0.5
# Exchanges that wait, at most. While one post is slow, 30 requests a second overflow it; while the
# receiver is well, only more than a client that asks one after the other can send.
QUEUE = 15
BODY = json.dumps(
    {
        "inputs": [
            {"name": "kind", "datatype": "INT64", "shape": [2], "data": [1, 2]},
            {"name": "amount", "datatype": "FP32", "shape": [2], "data": [1, 2]},
            {"name": "visits", "datatype": "FP32", "shape": [2], "data": [1, 2]},
            {"name": "channel", "datatype": "INT64", "shape": [2], "data": [1, 2]},
        ]
    }
).encode()


class StandInReceiver:
    """Receives events at one port, in the manner of ``manner``."""

    def __init__(self) -> None:
        self.manner = "well"
        self.released = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        # Holds the port while nobody listens at it, so that nobody else is given it.
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._held.bind(("127.0.0.1", 0))
        self.port = int(self._held.getsockname()[1])
        self.open()

    def open(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                if outer.manner == "hangs":
                    outer.released.wait(60)
                if outer.manner == "slow":
                    time.sleep(SLOW)
                if outer.manner in ("breaks", "gone"):
                    self.close_connection = True
                    return
                self.send_response(500 if outer.manner == "fails" else 202)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            allow_reuse_port = True
            daemon_threads = True

        self._server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        assert self._server is not None
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def release(self) -> None:
        """Let others have the port."""
        self._held.close()

    def become(self, manner: str) -> None:
        before, self.manner = self.manner, manner
        if manner == "gone":
            self.close()
        if before == "gone":
            self.open()
        if before == "hangs":
            self.released.set()
        if manner == "hangs":
            self.released.clear()


@pytest.fixture(scope="module")
def receiver() -> Iterator[StandInReceiver]:
    stand_in = StandInReceiver()
    yield stand_in
    stand_in.close()
    stand_in.release()


@pytest.fixture(scope="module")
def url(
    predictor: ModuleType,
    tiny: ModuleType,
    receiver: StandInReceiver,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    package = tiny.write_tiny_package(tmp_path_factory.mktemp("package"))
    settings = {
        "payload_url": f"http://127.0.0.1:{receiver.port}/",
        "payload_interval_seconds": "0.02",
        "payload_timeout_seconds": str(TIMEOUT),
        "payload_queue": str(QUEUE),
    }
    with predictor.predictor_server(
        package.path, tmp_path_factory.mktemp("server"), settings
    ) as server:
        yield server.url


def ask(client: httpx.Client) -> list[float]:
    waits = []
    for _ in range(REQUESTS):
        started = time.perf_counter()
        assert client.post(INFER, content=BODY).status_code == 200
        waits.append(time.perf_counter() - started)
    return waits


def events(client: httpx.Client) -> tuple[dict[str, float], float]:
    """Return how many events were told or dropped by each reason, and how many there should be."""
    found = {}
    asked = 0.0
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            if sample.name == "davy_requests_total" and sample.labels["outcome"] == "ok":
                asked = sample.value
            if sample.name == "davy_payload_events_total":
                found["told"] = sample.value
            if sample.name == "davy_payload_events_dropped_total":
                found[sample.labels["reason"]] = sample.value
    return found, 2 * asked


def settled(client: httpx.Client) -> dict[str, float]:
    """Return the counts once every event is told or dropped."""
    deadline = time.monotonic() + 20
    while True:
        found, expected = events(client)
        if sum(found.values()) == expected:
            return found
        assert time.monotonic() < deadline, (found, expected)
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("manner", "reasons", "also"),
    [
        ("hangs", {"timeout"}, {"queue_full"}),
        ("slow", {"queue_full"}, {"timeout"}),
        ("gone", {"error", "refused"}, {"queue_full"}),
        ("breaks", {"error"}, {"queue_full"}),
        ("fails", {"error"}, {"queue_full"}),
    ],
)
def test_no_request_waits_for_the_detector(
    url: str, receiver: StandInReceiver, manner: str, reasons: set[str], also: set[str]
) -> None:
    with httpx.Client(base_url=url, timeout=10) as client:
        ask(client)
        well, ill = ask(client), []
        before = settled(client)
        try:
            receiver.become(manner)
            ill = ask(client)
            # While it is so, unless it never lets go.
            during = settled(client) if manner != "slow" else {}
        finally:
            receiver.become("well")
        after = during or settled(client)
        well += ask(client)
    figures = f"well {statistics.median(well):.4f} s, {manner} {statistics.median(ill):.4f} s"
    # Wide, because other tests use the same cores; one that waited for the log would have waited
    # for a slow receiver's pause at the least.
    assert statistics.median(ill) < statistics.median(well) + 0.05, figures
    assert statistics.quantiles(ill, n=20)[-1] < SLOW, figures
    grown = {name for name in after if after[name] > before.get(name, 0)} - {"told"}
    assert grown <= reasons | also
    assert grown & reasons, f"only {grown} grew, so {manner} was not tried"
