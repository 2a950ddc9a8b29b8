"""A candidate answers copies of real requests before it serves: real processes throughout.

Two predictors, the router, Prometheus, a detector that sends, `davy rollout run`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from tests.fixtures.predictor_server import free_port, predictor_server
from tests.fixtures.programs import Program, prometheus, running, traefik
from tests.fixtures.tiny_package import write_watched_package

from davy.protocol.shadow import read_targets
from davy.rollout.adapters.traefik_file import Route, dynamic_configuration

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

DAVY = Path(sys.executable).parent / "davy"
PATIENCE = 120.0


@dataclass
class Shoppers:
    """Ask the router one after another until they are told to end; keep which version answered."""

    url: str
    ended: threading.Event = field(default_factory=threading.Event)
    answered: dict[str, int] = field(default_factory=dict)
    failed: int = 0

    def run(self) -> None:
        with httpx.Client(trust_env=False, timeout=20) as client:
            number = 0
            while not self.ended.wait(0.02):
                number += 1
                answer = client.post(f"{self.url}/v2/models/tiny/infer", json=asked(number))
                if answer.status_code != 200:
                    self.failed += 1
                    continue
                version = answer.json()["model_version"]
                self.answered[version] = self.answered.get(version, 0) + 1


def asked(number: int) -> dict[str, Any]:
    columns = {
        "kind": ("INT64", number % 6),
        "amount": ("FP32", 20.0 + number % 50),
        "visits": ("FP32", 3.0),
        "channel": ("INT64", 1),
    }
    inputs = [
        {"name": name, "datatype": kind, "shape": [1], "data": [value]}
        for name, (kind, value) in columns.items()
    ]
    return {"id": f"shopper-{number}", "inputs": inputs}


def detector(work: Path, store: Path, port: int) -> Program:
    """Return a detector that sends to the candidates of ``work/shadow.json``."""
    environment = {
        "DAVY_DETECTOR_STORE": str(store),
        "DAVY_DETECTOR_PORT": str(port),
        "DAVY_DETECTOR_ENGINE": "native",
        "DAVY_DETECTOR_SHADOW_TARGETS": str(work / "shadow.json"),
        "DAVY_DETECTOR_SHADOW_PER_SECOND": "100",
    }
    settings = [f"{name}={value}" for name, value in environment.items()]
    url = f"http://127.0.0.1:{port}"
    command = ["env", *settings, str(DAVY), "detector", "serve"]
    return Program(url, command, work / "detector.log", f"{url}/health/ready")


@dataclass
class Place:
    """Everything that runs, and how a rollout is started."""

    work: Path
    stable: str
    canary: str
    arguments: list[str]
    prometheus_url: str
    detector: Program
    shoppers: Shoppers

    @contextmanager
    def rollout(self, name: str, shadow: Mapping[str, Any]) -> Iterator[subprocess.Popen[bytes]]:
        document = {
            "apiVersion": "davylamp.dev/v1alpha1",
            "kind": "ModelRollout",
            "metadata": {"name": "tiny"},
            "spec": {
                "candidate": {"version": self.canary},
                "shadow": dict(shadow),
                "steps": [{"weight": 50, "minDuration": "60s"}],
                "analysis": {
                    "interval": "1s",
                    "deadline": "10m",
                    "indicators": [{"name": "errors", "ratio": 2, "allowance": 0.05}],
                    "vetoes": [],
                    "prometheus": {"url": self.prometheus_url, "selector": 'job="predictor"'},
                },
            },
        }
        spec = self.work / f"{name}.yaml"
        spec.write_text(yaml.safe_dump(document), encoding="utf-8")
        command = [str(DAVY), "rollout", "run", str(spec), "--state", str(self.work / name)]
        with (self.work / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [*command, *self.arguments], stdout=log, stderr=subprocess.STDOUT
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()

    def looks(self, name: str) -> list[dict[str, Any]]:
        record = self.work / name / "record.jsonl"
        lines = record.read_text().split("\n")[:-1] if record.is_file() else []
        return [found for line in lines if (found := json.loads(line))["kind"] == "look"]

    def wait(self, name: str, what: str, told: Callable[[], bool]) -> None:
        until = time.monotonic() + PATIENCE
        while not told():
            log = (self.work / f"{name}.log").read_text()
            assert time.monotonic() < until, f"not seen: {what}\n{log[-3000:]}"
            time.sleep(0.1)

    def copies(self) -> float:
        text = httpx.get(f"{self.detector.url}/metrics", trust_env=False, timeout=20).text
        return sum(map(float, re.findall(r"^davy_shadow_requests_total{.*} (\S+)$", text, re.M)))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    packages = [
        write_watched_package(tmp_path, weight=weight, task=task)
        for weight, task in ((0.01, "tiny"), (0.02, "again"))
    ]
    stable, canary = (package.contract.version for package in packages)
    sender = detector(tmp_path, tmp_path / "store", free_port())
    logging = {"payload_url": sender.url, "payload_sample_rate": "1"}
    with (
        running(sender),
        predictor_server(packages[0].path, tmp_path / "one", logging) as one,
        predictor_server(packages[1].path, tmp_path / "two", logging) as two,
    ):
        web, api = free_port(), free_port()
        router = traefik(tmp_path, tmp_path / "dynamic", web=web, api=api)
        targets = {"predictor": [one.url, two.url], "detector": [sender.url]}
        scraped = {
            job: [url.removeprefix("http://") for url in urls] for job, urls in targets.items()
        }
        watcher = prometheus(tmp_path, scraped, interval="500ms")
        file = tmp_path / "dynamic" / "davy.yaml"
        route = Route("tiny", {stable: [one.url]})
        file.write_text(yaml.safe_dump(dynamic_configuration(route, {stable: 100})))
        arguments = ["--stable", stable, "--traefik-file", str(file), "--traefik-api", router.url]
        arguments += ["--shadow-file", str(tmp_path / "shadow.json")]
        for package, url in zip(packages, (one.url, two.url), strict=True):
            version = package.contract.version
            arguments += ["--server", f"{version}={url}", "--package", f"{version}={package.path}"]
        shoppers = Shoppers(f"http://127.0.0.1:{web}")
        with running(router, watcher):
            thread = threading.Thread(target=shoppers.run)
            thread.start()
            try:
                yield Place(tmp_path, stable, canary, arguments, watcher.url, sender, shoppers)
            finally:
                shoppers.ended.set()
                thread.join(timeout=30)


def test_what_a_candidate_answers_unserved_decides_whether_it_serves(place: Place) -> None:
    # Other weights answer otherwise: more than this tolerates.
    limits = {"requests": 30, "errors": 0.2, "differences": 0.2}
    with place.rollout("strict", {**limits, "tolerance": 0.001}) as engine:
        assert engine.wait(PATIENCE) == 1, (place.work / "strict.log").read_text()[-3000:]
    looks = place.looks("strict")
    assert looks[-1]["decision"]["phase"] == "RolledBack"
    assert {look["weights"]["read"] for look in looks} == {0}
    (failed,) = (look["decision"] for look in looks if look["decision"]["action"] == "rollback")
    assert "shadow-differences: at least" in failed["message"]
    assert set(place.shoppers.answered) == {place.stable}
    assert place.copies() > 0
    assert not read_targets(place.work / "shadow.json").targets

    # The same candidate, where that much may differ, serves; then nothing more is sent to it.
    with place.rollout("tolerant", {**limits, "tolerance": 1.0}) as engine:
        place.wait(
            "tolerant",
            "half of the weight",
            lambda: place.shoppers.answered.get(place.canary, 0) > 20,
        )
        assert not read_targets(place.work / "shadow.json").targets
        time.sleep(1.5)
        before = place.copies()
        time.sleep(1.5)
        assert place.copies() == before
        engine.send_signal(signal.SIGTERM)
        assert engine.wait(30) == os.EX_TEMPFAIL
    actions = [look["decision"] for look in place.looks("tolerant")]
    assert [item["reason"] for item in actions if item["action"] != "hold"] == ["Started"]
    assert place.shoppers.failed == 0
    told = subprocess.run(
        [DAVY, "rollout", "replay", place.work / "tolerant"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
