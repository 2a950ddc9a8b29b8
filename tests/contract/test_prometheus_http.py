"""The Prometheus adapter against a real Prometheus: raw samples, exact counts."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app
from tests.fixtures.predictor_server import free_port
from tests.fixtures.programs import prometheus, running
from typer.testing import CliRunner

from davy.cli.rollout import app
from davy.core.clock import SystemClock
from davy.core.errors import UnavailableError
from davy.rollout.adapters.prometheus_http import PrometheusHttp
from davy.rollout.counters import SCRAPE_FAILED, Cursor, Reading, read_interval
from davy.rollout.series import Arms
from davy.rollout.verdict import Counts
from davy.rollout.vetoes import drift_veto

ARMS = Arms(stable="2017.11.01-aaaaaaaa", canary="2017.12.01-b+(b)")


class StandInDetector:
    """The one metric of a detector that the gate reads."""

    def __init__(self, version: str) -> None:
        registry = CollectorRegistry()
        active = Gauge("davy_drift_active", "x", ["model", "version", "feature"], registry=registry)
        active.labels("m", version, "price").set(0)
        self.server = make_server(
            "127.0.0.1", 0, make_wsgi_app(registry), handler_class=QuietHandler
        )
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.server_port}"


class QuietHandler(WSGIRequestHandler):
    """Keeps quiet."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


class StandInPredictor:
    """The metrics of a predictor, on a port of its own."""

    def __init__(self, version: str) -> None:
        registry = CollectorRegistry()
        self.version = version
        self.requests = Counter(
            "davy_requests", "x", ["model", "version", "outcome"], registry=registry
        )
        self.seconds = Histogram(
            "davy_request_seconds", "x", ["model", "version"], buckets=(0.05, 0.1, 0.5),
            registry=registry,
        )  # fmt: skip
        info = Gauge("davy_model_info", "x", ["model", "version"], registry=registry)
        info.labels("m", version).set(1)
        self.server = make_server(
            "127.0.0.1", 0, make_wsgi_app(registry), handler_class=QuietHandler
        )
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.server_port}"

    def serve(self, outcome: str, seconds: float, times: int) -> None:
        for _ in range(times):
            self.requests.labels("m", self.version, outcome).inc()
            self.seconds.labels("m", self.version).observe(seconds)


@dataclass
class Place:
    """A running Prometheus that scrapes two predictors."""

    url: str
    stable: StandInPredictor
    canary: StandInPredictor


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    stable, canary = StandInPredictor(ARMS.stable), StandInPredictor(ARMS.canary)
    detector = StandInDetector(ARMS.canary)
    targets = {"predictor": [stable.address, canary.address], "detector": [detector.address]}
    program = prometheus(tmp_path, targets, interval="200ms")
    try:
        with running(program):
            yield Place(program.url, stable, canary)
    finally:
        for standin in (stable, canary, detector):
            standin.server.shutdown()
            standin.server.server_close()


def read(adapter: PrometheusHttp, cursor: Cursor) -> Reading:
    return read_interval(
        cursor,
        adapter.series(ARMS, cursor.newest),
        arms=ARMS,
        indicators=("errors", "slow", "rejected"),
        objective=0.1,
        now=time.time(),
        stale_after=10,
    )


def settle(adapter: PrometheusHttp, cursor: Cursor, wanted: Counts, name: str) -> Reading:
    """Read until the counts since the cursor are those wanted, or the last that came."""
    until = time.monotonic() + 15
    reading = read(adapter, cursor)
    while time.monotonic() < until and reading.counts.get(name) != wanted:
        time.sleep(0.2)
        reading = read(adapter, cursor)
    return reading


def test_counts_are_exact_over_resets_of_nothing_and_new_labels(place: Place) -> None:
    adapter = PrometheusHttp(place.url, clock=SystemClock(), selector='{job="predictor"}')
    place.stable.serve("ok", 0.01, 500)
    until = time.monotonic() + 15
    base = read(adapter, Cursor())
    while base.missing is not None and time.monotonic() < until:
        time.sleep(0.2)
        base = read(adapter, Cursor())
    assert base.missing is None
    time.sleep(0.6)  # both arms have been scraped with all that was served before
    base = read(adapter, Cursor())
    place.stable.serve("ok", 0.01, 97)
    place.stable.serve("ok", 0.3, 3)
    place.canary.serve("ok", 0.06, 8)
    place.canary.serve("server_error", 0.2, 2)
    place.canary.serve("client_error", 0.01, 1)
    reading = settle(adapter, base.cursor, Counts(100, 0, 10, 2), "errors")
    assert reading.missing is None
    assert reading.counts["errors"] == Counts(100, 0, 10, 2)
    assert reading.counts["slow"] == Counts(100, 3, 11, 2)
    assert reading.counts["rejected"] == Counts(100, 0, 11, 1)
    assert reading.start is not None
    assert reading.end is not None
    assert reading.start < reading.end
    again = read(adapter, reading.cursor)
    assert again.counts["errors"] == Counts(0, 0, 0, 0)
    # A predictor that cannot be scraped any more is told apart from one without requests.
    place.canary.server.shutdown()
    place.canary.server.server_close()
    until = time.monotonic() + 10
    while again.missing is None and time.monotonic() < until:
        time.sleep(0.2)
        again = read(adapter, reading.cursor)
    assert again.missing is not None
    assert again.missing.reason == SCRAPE_FAILED
    adapter.close()


def test_the_selector_of_the_predictors_does_not_hide_the_detector(place: Place) -> None:
    adapter = PrometheusHttp(place.url, clock=SystemClock(), selector='job="predictor"')
    until = time.monotonic() + 15
    veto = drift_veto(adapter.series(ARMS, None), ARMS)
    while veto.active and time.monotonic() < until:
        time.sleep(0.2)
        veto = drift_veto(adapter.series(ARMS, None), ARMS)
    assert not veto.active, veto.message
    adapter.close()


def test_a_selector_that_does_not_parse_is_named(place: Place) -> None:
    adapter = PrometheusHttp(place.url, clock=SystemClock(), selector="job=")
    with pytest.raises(UnavailableError, match=r"refuses the query.*selector"):
        adapter.series(ARMS, None)
    adapter.close()


def test_no_prometheus_is_temporary() -> None:
    port = free_port()
    adapter = PrometheusHttp(f"http://127.0.0.1:{port}", clock=SystemClock())
    with pytest.raises(UnavailableError, match="does not answer"):
        adapter.series(ARMS, None)
    adapter.close()


def test_a_plan_measures_the_traffic_of_the_version_that_serves(
    place: Place, tmp_path: Path
) -> None:
    spec = tmp_path / "rollout.yaml"
    spec.write_text(
        "apiVersion: davylamp.dev/v1alpha1\nkind: ModelRollout\nmetadata: {name: r}\n"
        "spec: {candidate: {version: v2}, steps: [{weight: 50}], analysis: {interval: 1s, "
        "deadline: 10m, indicators: [{name: errors, allowance: 0.2}], "
        f'prometheus: {{url: "{place.url}"}}}}}}\n'
    )
    until, said = time.monotonic() + 20, None
    while time.monotonic() < until:
        place.stable.serve("ok", 0.01, 18)
        place.stable.serve("server_error", 0.01, 2)
        time.sleep(0.2)
        found = CliRunner().invoke(
            app, ["plan", str(spec), "--stable", ARMS.stable, "--runs", "20"]
        )
        said = found.stdout
        # Errors are a tenth of what is served in each fifth of a second, whatever that comes to.
        if found.exit_code == 0 and "errors: stable arm 10 %" in said:
            assert f"requests a second ({ARMS.stable}, its last" in said
            return
    raise AssertionError(f"the traffic was never measured: {said}")
