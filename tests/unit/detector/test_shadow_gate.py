"""From copies that a real candidate answered, over the detector's metrics, to the first weight."""

from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from tests.fixtures.logged_server import LoggedServer
from tests.fixtures.scraped_exposition import StandInPrometheus
from tests.fixtures.tiny_package import write_tiny_package

from davy.core.clock import ManualClock
from davy.detector.packages import FolderPackages
from davy.detector.settings import DetectorSettings
from davy.detector.shadow import Shadow, ShadowMetrics
from davy.protocol.shadow import read_targets
from davy.protocol.v2 import decode_request, encode_response
from davy.rollout.adapters.memory import DryRunTraffic, MemoryJournal, StatedPackages
from davy.rollout.adapters.prometheus_http import PrometheusHttp
from davy.rollout.adapters.shadow_file import ShadowFile
from davy.rollout.decide import SHADOWING
from davy.rollout.engine import Engine
from davy.rollout.ports import GateFacts
from davy.rollout.spec import RolloutSpec
from davy.rollout.state import Phase

START = datetime(2026, 1, 5, tzinfo=UTC)
INTERVAL = 30.0


class Shop:
    """Two real arms, a detector that sends, a gate that names the candidate in a real file."""

    def __init__(self, folder: Path, weight: float) -> None:
        self.clock = ManualClock(START)
        self.stable = LoggedServer(write_tiny_package(folder))
        self.canary = LoggedServer(write_tiny_package(folder, weight=weight, task="again"))
        self.prometheus = StandInPrometheus()
        self.registry = CollectorRegistry()
        self.path = folder / "shadow.json"
        settings = DetectorSettings(
            store=folder / "store", engine="native", shadow_targets=self.path
        )
        self.shadow = Shadow(
            FolderPackages(settings),
            settings,
            ShadowMetrics(self.registry),
            self.clock,
            httpx.Client(transport=httpx.MockTransport(self.answer)),
        )
        self.sent = 0
        self.traffic = DryRunTraffic()
        self.journal = MemoryJournal()

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.sent += 1
        self.canary.metrics.request("ok", 0.001)
        answer = self.canary.plane.infer(decode_request(request.content))
        return httpx.Response(200, content=encode_response(answer).body)

    def serve(self, rng: np.random.Generator, requests: int) -> None:
        for number in range(requests):
            amount = rng.uniform(0, 100, 1).astype(np.float32)
            served = self.canary if rng.random() * 100 < self.traffic.weight else self.stable
            pair = served.serve(f"{self.sent}-{number}", amount=amount)
            targets = read_targets(self.path).targets
            if served is self.stable and targets:
                self.shadow.send(targets[0], pair)

    def scrape(self) -> None:
        now = self.clock.now().timestamp()
        self.prometheus.scrape(now, "stable-1", self.stable.exposition())
        self.prometheus.scrape(now, "canary-1", self.canary.exposition())
        self.prometheus.scrape(now, "detector-1", generate_latest(self.registry).decode())

    def engine(self, tolerance: float) -> Engine:
        spec = RolloutSpec.model_validate(
            {
                "candidate": {"version": self.canary.version},
                "shadow": {"requests": 400, "differences": 0.05, "errors": 0.05}
                | {"tolerance": tolerance},
                "steps": [{"weight": 20, "minRequests": 0}],
                "analysis": {
                    "interval": f"{INTERVAL:g}s",
                    "deadline": "1h",
                    "vetoes": [],
                    "indicators": [{"name": "errors", "ratio": 1.5, "allowance": 0.05}],
                },
            }
        )
        return Engine(
            spec,
            name="r",
            stable=self.stable.version,
            traffic=self.traffic,
            metrics=PrometheusHttp(
                "http://127.0.0.1:9", clock=self.clock, transport=self.prometheus.transport()
            ),
            journal=self.journal,
            packages=StatedPackages(GateFacts(0.1, ())),
            clock=self.clock,
            shadow=ShadowFile(self.path, {self.canary.version: ["http://candidate"]}),
        )


def run(shop: Shop, tolerance: float, looks: int = 25) -> Engine:
    engine, rng = shop.engine(tolerance), np.random.default_rng(1)
    for _ in range(looks):
        shop.scrape()
        engine.look()
        if engine.state.phase in (Phase.PROMOTED, Phase.ROLLED_BACK):
            break
        shop.clock.sleep(INTERVAL)
        shop.serve(rng, 100)
    return engine


@pytest.mark.parametrize(
    ("weight", "tolerance", "phase"),
    [
        (0.03, 0.001, Phase.PROMOTED),
        # Another model, and more than the spec tolerates; then one that it tolerates.
        (0.06, 0.01, Phase.ROLLED_BACK),
        (0.031, 0.1, Phase.PROMOTED),
    ],
    ids=["the same", "too different", "tolerably different"],
)
def test_what_the_candidate_answers_decides_whether_it_serves(
    tmp_path: Path, weight: float, tolerance: float, phase: Phase
) -> None:
    shop = Shop(tmp_path, weight)
    engine = run(shop, tolerance)
    assert engine.state.phase == phase
    assert shop.sent >= 100
    assert not read_targets(shop.path).targets
    if phase == Phase.ROLLED_BACK:
        assert set(shop.traffic.asked) <= {0}
    first = shop.journal.lines[2].decision
    assert (first.reason, first.weight) == (SHADOWING, 0) or phase == Phase.ROLLED_BACK
