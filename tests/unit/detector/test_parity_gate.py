"""From logged requests, executed again, over the detector's metrics to the gate's verdict."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from tests.fixtures.logged_server import LoggedServer
from tests.fixtures.one_indicator import INTERVAL, gate
from tests.fixtures.scraped_exposition import StandInPrometheus
from tests.fixtures.tiny_package import write_tiny_package

from davy.core.clock import ManualClock
from davy.detector.packages import FolderPackages
from davy.detector.replay import Replayer, ReplayMetrics, Source
from davy.detector.settings import DetectorSettings
from davy.rollout.engine import Engine
from davy.rollout.state import Phase

START = datetime(2026, 1, 5, tzinfo=UTC)
LOOKS = 20


class Shop:
    """Two real arms and a detector's replay, scraped by a stand-in Prometheus."""

    def __init__(self, folder: Path) -> None:
        packages = [write_tiny_package(folder, weight=weight) for weight in (0.03, 0.04)]
        self.stable, self.canary = (LoggedServer(package) for package in packages)
        self.clock = ManualClock(START)
        self.prometheus = StandInPrometheus()
        self.settings = DetectorSettings(store=folder / "store", engine="native")
        self.detect()

    def detect(self) -> None:
        """Begin a detector, or begin it anew: its counters then start at nothing."""
        self.registry, settings = CollectorRegistry(), self.settings
        self.replayer = Replayer(
            FolderPackages(settings), settings, ReplayMetrics(self.registry), self.clock
        )

    def traffic(self, bad: float, rng: np.random.Generator, requests: int = 50) -> None:
        for server, share in ((self.stable, 0.0), (self.canary, bad)):
            for number in range(requests):
                factor = 1.01 if rng.random() < share else 1.0
                pair = server.serve(str(number), factor=factor)
                self.replayer.check(Source(pair.version), pair)

    def scrape(self, *, detector: bool = True) -> None:
        now = self.clock.now().timestamp()
        self.prometheus.scrape(now, "stable-1", self.stable.exposition())
        self.prometheus.scrape(now, "canary-1", self.canary.exposition())
        if detector:
            self.prometheus.scrape(now, "detector-1", generate_latest(self.registry).decode())

    def engine(self) -> Engine:
        return gate(
            "parity",
            stable=self.stable.version,
            canary=self.canary.version,
            prometheus=self.prometheus,
            clock=self.clock,
        )


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def run(shop: Shop, bad: float, *, restart: int | None = None, detector: bool = True) -> Engine:
    engine, rng = shop.engine(), np.random.default_rng(1)
    for look in range(LOOKS):
        shop.scrape(detector=detector)
        engine.look()
        shop.clock.sleep(INTERVAL)
        if look == restart:
            shop.detect()
        shop.traffic(bad, rng)
    return engine


def test_a_server_that_answers_otherwise_than_its_package_is_rolled_back(shop: Shop) -> None:
    engine = run(shop, bad=0.3)
    assert engine.state.phase in {Phase.ROLLING_BACK, Phase.ROLLED_BACK}
    (verdict,) = engine.state.verdicts
    assert (verdict.indicator, verdict.outcome) == ("parity", "fail")


def test_a_server_that_answers_as_its_package_is_promoted(shop: Shop) -> None:
    assert run(shop, bad=0.0).state.phase in {Phase.PROMOTING, Phase.PROMOTED}


def test_a_detector_that_starts_anew_loses_no_verdict(shop: Shop) -> None:
    assert run(shop, bad=0.0, restart=6).state.phase in {Phase.PROMOTING, Phase.PROMOTED}


def test_without_a_detector_the_canary_waits(shop: Shop) -> None:
    engine = run(shop, bad=0.0, detector=False)
    assert engine.state.phase == Phase.PROGRESSING
    assert "parity" in engine.observed.absent
