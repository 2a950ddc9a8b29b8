"""A canary through Traefik in which the engine, Prometheus and Traefik are each killed (SIGKILL).

Real processes throughout: two predictors on packages, the router, Prometheus, `davy rollout run`.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tests.fixtures.load_client import LoadClient
from tests.fixtures.predictor_server import free_port, predictor_server
from tests.fixtures.programs import Program, prometheus, running, traefik
from tests.fixtures.tiny_package import write_tiny_package

from davy.packaging.package import Package
from davy.protocol.tensors import tensor
from davy.protocol.v2 import InferRequest, encode_request
from davy.rollout.adapters.traefik_file import Route, dynamic_configuration

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

DAVY = Path(sys.executable).parent / "davy"
RATE = 60.0
PATIENCE = 120.0


def body() -> bytes:
    columns = {
        "kind": np.array([3]),
        "amount": np.array([50], np.float32),
        "visits": np.ones(1, np.float32),
        "channel": np.array([1]),
    }
    return encode_request(InferRequest(tuple(tensor(n, d) for n, d in columns.items()))).body


@dataclass
class Load:
    """Asks the router at a steady rate until it is told to end; keeps when a request failed."""

    port: int
    ended: threading.Event = field(default_factory=threading.Event)
    failed: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)

    def run(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        client = LoadClient(self.port, body())
        tasks: set[asyncio.Task[None]] = set()
        while not self.ended.is_set():
            task = asyncio.create_task(self._one(client))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            await asyncio.sleep(1 / RATE)
        await asyncio.gather(*tasks)
        client.close()

    async def _one(self, client: LoadClient) -> None:
        told = await client.ask()
        (self.answered if told.status == 200 else self.failed).append(time.time())


@dataclass
class Place:
    """Everything that runs, and how the engine is started."""

    router: Program
    watcher: Program
    load: Load
    record: Path
    command: list[str]
    log: Path

    @contextmanager
    def engine(self) -> Iterator[subprocess.Popen[bytes]]:
        with self.log.open("ab") as file:
            process = subprocess.Popen(self.command, stdout=file, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()

    def looks(self) -> list[dict[str, Any]]:
        if not self.record.is_file():
            return []
        lines = [line for line in self.record.read_text().split("\n")[:-1] if line]
        return [found for line in lines if (found := json.loads(line))["kind"] == "look"]

    def wait(self, what: str, condition: Callable[[list[dict[str, Any]]], bool]) -> None:
        until = time.monotonic() + PATIENCE
        while not condition(self.looks()):
            told = f"not seen: {what}\n{self.log.read_text()[-3000:]}"
            assert time.monotonic() < until, told
            time.sleep(0.1)


def write_spec(path: Path, canary: str, prometheus_url: str) -> Path:
    document = {
        "apiVersion": "davylamp.dev/v1alpha1",
        "kind": "ModelRollout",
        "metadata": {"name": "tiny"},
        "spec": {
            "candidate": {"version": canary},
            "steps": [{"weight": 25, "minDuration": "6s"}, {"weight": 50, "minDuration": "20s"}],
            "analysis": {
                "interval": "1s",
                "deadline": "10m",
                # What fails while the router is down fails at the router, in neither arm.
                "indicators": [{"name": "errors", "ratio": 2, "allowance": 0.05}],
                "vetoes": [],
                "prometheus": {"url": prometheus_url},
            },
        },
    }
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    stable, canary = (
        write_tiny_package(tmp_path / name, weight=weight)
        for name, weight in (("stable", 0.01), ("canary", 0.02))
    )
    with (
        predictor_server(stable.path, tmp_path / "one") as one,
        predictor_server(canary.path, tmp_path / "two") as two,
    ):
        urls = {version(stable): one.url, version(canary): two.url}
        web, api = free_port(), free_port()
        dynamic = tmp_path / "dynamic"
        router = traefik(tmp_path, dynamic, web=web, api=api)
        addresses = [url.removeprefix("http://") for url in urls.values()]
        watcher = prometheus(tmp_path, {"predictor": addresses}, interval="500ms")
        route = Route("tiny", {version(stable): [one.url]})
        file = dynamic / "davy.yaml"
        file.write_text(yaml.safe_dump(dynamic_configuration(route, {version(stable): 100})))
        spec = write_spec(tmp_path / "rollout.yaml", version(canary), watcher.url)
        command = [str(DAVY), "rollout", "run", str(spec), "--state", str(tmp_path / "state")]
        command += ["--stable", version(stable)]
        for name, url in urls.items():
            command += ["--server", f"{name}={url}"]
        for package in (stable, canary):
            command += ["--package", f"{version(package)}={package.path}"]
        command += ["--traefik-file", str(file), "--traefik-api", router.url]
        with running(router, watcher):
            load = Load(web)
            thread = threading.Thread(target=load.run)
            thread.start()
            try:
                yield Place(
                    router,
                    watcher,
                    load,
                    tmp_path / "state" / "record.jsonl",
                    command,
                    tmp_path / "engine.log",
                )
            finally:
                load.ended.set()
                thread.join(timeout=30)


def version(package: Package) -> str:
    return package.contract.version


def moved(looks: list[dict[str, Any]], start: float, end: float) -> list[str]:
    """Return what was decided between two times beyond waiting."""
    actions = [look["decision"]["action"] for look in looks if start <= moment(look) <= end]
    return [action for action in actions if action != "hold"]


def without_metrics(looks: list[dict[str, Any]], since: float) -> int:
    """Return how many looks since a time found no counts."""
    missing = [look["intervals"]["missing_reason"] for look in looks if moment(look) > since]
    return sum(reason is not None for reason in missing)


def moment(look: dict[str, Any]) -> float:
    return datetime.fromisoformat(look["time"]).timestamp()


def test_whatever_dies_traffic_and_evidence_go_on_and_nothing_is_promoted_meanwhile(
    place: Place,
) -> None:
    def at(weight: int) -> Callable[[list[dict[str, Any]]], bool]:
        return lambda looks: bool(looks) and looks[-1]["weights"]["read"] == weight

    # The engine is killed while the canary has a quarter: the router goes on without it.
    with place.engine() as engine:
        place.wait("the canary at 25 %", at(25))
        time.sleep(1.5)
        engine.kill()
        engine.wait()
    written = place.record.read_text()
    before, asked = len(place.looks()), len(place.load.answered)
    time.sleep(3)
    assert len(place.load.answered) - asked > RATE
    assert place.load.failed == []
    assert place.record.read_text() == written

    with place.engine() as engine:
        # It goes on from its record: the numbers of its looks have neither gap nor repetition.
        place.wait("a look after the crash", lambda looks: len(looks) > before)
        assert place.record.read_text().startswith(written)

        # Without Prometheus there is no evidence: it waits.
        place.wait("the canary at 50 %", at(50))
        died = time.time()
        place.watcher.kill()
        place.wait("a look without metrics", lambda looks: without_metrics(looks, died) >= 3)
        place.watcher.start()
        assert moved(place.looks(), died, time.time()) == []
        assert place.load.failed == []

        # Without the router nobody is served, and nothing is decided; it comes back as it was.
        died = time.time()
        place.router.kill()
        place.wait("a look without the router", lambda looks: looks[-1]["weights"]["read"] is None)
        place.router.start()
        assert moved(place.looks(), died, time.time()) == []
        place.wait("the router's weight again", at(50))
        back = time.time()
        assert engine.wait(PATIENCE) == 0, place.log.read_text()

    looks = place.looks()
    assert looks[-1]["decision"]["phase"] == "Promoted"
    assert [look["look"] for look in looks] == list(range(1, len(looks) + 1))
    # What failed, failed while there was no router.
    assert all(died <= failed <= back for failed in place.load.failed)
    again = subprocess.run(
        [DAVY, "rollout", "replay", place.record], capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
