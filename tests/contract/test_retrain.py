"""What `davy retrain` reads of a real Prometheus, and that it trains and begins a canary."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
import yaml
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app
from tests.fixtures.programs import prometheus, running
from typer.testing import CliRunner

from davy.cli.main import build
from davy.retrain.decide import Observed
from davy.retrain.observe import PrometheusValues, observe
from davy.retrain.policy import Policy, read_policy

pytestmark = pytest.mark.xdist_group("retrain")
OF = ["model", "version"]


class QuietHandler(WSGIRequestHandler):
    """Keeps quiet."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


class StandInModel:
    """The metrics of a model in trouble: predictor, detector and engine in one."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        info = Gauge("davy_model_info", "x", [*OF, "identity"], registry=registry)
        info.labels("m", "v1", "a").set(1)
        info.labels("m", "v0", "b").set(0)
        realised = Gauge(
            "davy_performance_realised", "x", [*OF, "metric", "segment"], registry=registry
        )
        for version, metric, segment, value in (
            ("v1", "roc_auc", "all", 0.71),
            ("v1", "roc_auc", "young", 0.1),
            ("v1", "f1", "all", 0.2),
            ("v0", "roc_auc", "all", 0.3),
        ):
            realised.labels("m", version, metric, segment).set(value)
        drift = Gauge("davy_drift_active", "x", [*OF, "feature"], registry=registry)
        for version, feature, active in (("v1", "a", 1), ("v1", "b", 0), ("v0", "a", 1)):
            drift.labels("m", version, feature).set(active)
        self.joined = Counter("davy_labels_joined", "x", OF, registry=registry)
        self.broken = Counter(
            "davy_input_violations", "x", [*OF, "feature", "rule"], registry=registry
        )
        self.rows = Histogram("davy_batch_rows", "x", OF, registry=registry)
        self.weight = Gauge("davy_rollout_weight", "x", ["rollout", "arm"], registry=registry)
        self.weight.labels("m", "canary").set(100)
        self.go_on()
        self.server = make_server(
            "127.0.0.1", 0, make_wsgi_app(registry), handler_class=QuietHandler
        )
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def go_on(self) -> None:
        self.joined.labels("m", "v1").inc(100)
        self.broken.labels("m", "v1", "a", "range").inc(1)
        self.rows.labels("m", "v1").observe(99)


@pytest.fixture(scope="module")
def model() -> Iterator[StandInModel]:
    stand_in = StandInModel()
    yield stand_in
    stand_in.server.shutdown()
    stand_in.server.server_close()


@pytest.fixture(scope="module")
def url(model: StandInModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    address = f"127.0.0.1:{model.server.server_port}"
    program = prometheus(
        tmp_path_factory.mktemp("prometheus"), {"engine": [address]}, interval="1s"
    )
    with running(program):
        asked = PrometheusValues(program.url)
        until = time.monotonic() + 60
        while (asked.value("sum(increase(davy_labels_joined_total[1h]))") or 0) < 200:
            assert time.monotonic() < until, "no labels were seen to come"
            time.sleep(1)
            model.go_on()
        yield program.url


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    package = tmp_path / "store" / "m" / "v2"
    train = f"import os; os.makedirs({str(package)!r}); print({str(package)!r})"
    canary = f"import sys; open({str(tmp_path / 'canary')!r}, 'w').write(sys.argv[1])"
    path = tmp_path / "policy.yaml"
    fields = {
        "model": "m",
        "objective": {"metric": "roc_auc", "at_least": 0.8},
        "drift": {"loss": 0.1},
        "guards": {"labels": 100, "violations": 0.05},
        "run": {
            "train": [sys.executable, "-c", train],
            "canary": [sys.executable, "-c", canary, "{version}"],
        },
    }
    path.write_text(yaml.safe_dump(fields))
    return path


def test_only_what_is_served_counts(url: str, policy: Path) -> None:
    asked: Policy = read_policy(policy)
    seen = observe(asked, PrometheusValues(url), asked.guards.labels_within)
    assert seen.labels is not None
    assert seen.labels >= 200
    assert seen.violations == pytest.approx(0.01, abs=1e-6)
    assert seen == Observed(
        performance=0.71, drifted=1, labels=seen.labels, violations=seen.violations, rollouts=0
    )


def test_check_tells_run_trains_and_the_result_is_a_canary(url: str, policy: Path) -> None:
    def davy(command: str) -> str:
        arguments = ["retrain", command, str(policy), "--prometheus", url]
        result = CliRunner().invoke(build(), arguments)
        assert result.exit_code == 0, result.output
        return result.output

    told = davy("check")
    assert "✓ below its objective: realised roc_auc is 0.71, promised at least 0.8" in told
    assert "? drift that costs performance: 1 feature(s) have drifted, and no estimate" in told
    assert told.splitlines()[-1].startswith("start: realised roc_auc is 0.71")
    assert not (policy.parent / "canary").exists()
    assert davy("run").splitlines()[-1] == "outcome: trained"
    assert (policy.parent / "canary").read_text() == "v2"
    assert "✗ cooled down: started" in davy("check")
    lines = (policy.parent / "policy.record.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["decision", "start", "end"]


def test_a_canary_with_traffic_holds_it_back(model: StandInModel, url: str, policy: Path) -> None:
    model.weight.labels("other", "canary").set(5)
    asked = PrometheusValues(url)
    try:
        until = time.monotonic() + 30
        while (
            observe(read_policy(policy), asked, read_policy(policy).guards.cooldown).rollouts != 1
        ):
            assert time.monotonic() < until
            time.sleep(0.5)
    finally:
        model.weight.labels("other", "canary").set(100)
    time.sleep(2)


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "http://127.0.0.1:{port}/metrics?"])
def test_who_is_no_prometheus_is_named(model: StandInModel, policy: Path, address: str) -> None:
    address = address.format(port=model.server.server_port)
    arguments = ["retrain", "check", str(policy), "--prometheus", address]
    result = CliRunner().invoke(build(), arguments)
    assert result.exit_code != 0
    assert "Prometheus" in str(result.exception)
    assert address in str(result.exception)
