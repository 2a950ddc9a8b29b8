"""From events and late labels, over the detector's metrics, to the gate's verdict."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from tests.fixtures.logged_server import LoggedServer
from tests.fixtures.one_indicator import INTERVAL, gate
from tests.fixtures.scraped_exposition import StandInPrometheus
from tests.fixtures.tiny_package import write_tiny_package
from tests.unit.detector.conftest import StandInPackages, told

from davy.core.clock import ManualClock
from davy.detector.assembly import assemble
from davy.detector.intake import Entry
from davy.detector.labels import Label
from davy.detector.metrics import DetectorMetrics
from davy.detector.settings import DetectorSettings
from davy.protocol.tensors import tensor
from davy.rollout.state import Phase

START = datetime(2026, 1, 5, tzinfo=UTC)
LOOKS = 16
REQUESTS = 60


class Classifiers(StandInPackages):
    """Every version is there, and predicts a class."""

    def load(self, version):
        return replace(super().load("v1"), version=version, kind="classification")


class Shop:
    """Two arms that serve, and a detector that hears of them and of what turned out."""

    def __init__(self, folder):
        folder.mkdir()
        packages = [write_tiny_package(folder, weight=weight) for weight in (0.03, 0.04)]
        self.stable, self.canary = (LoggedServer(package) for package in packages)
        self.clock = ManualClock(START)
        self.prometheus = StandInPrometheus()
        self.settings = DetectorSettings(
            store=folder, engine="native", state=folder / "state", lateness_seconds=0
        )
        self.place = 0
        self.begin()

    def begin(self):
        """Begin the detector, or begin it anew on the same folder."""
        self.registry = CollectorRegistry()
        self.parts = assemble(
            self.settings, Classifiers(), DetectorMetrics(self.registry), self.clock
        )

    def traffic(self, traffic, wrong, rng, look):
        events, labels = [], []
        for server, share in ((self.stable, 0.1), (self.canary, wrong)):
            server.serve(str(look))  # so that its own counters say that it lives
            samples = traffic(REQUESTS, version=server.version, seed=look)
            for at in range(1, 2 * REQUESTS, 2):
                name = f"{server.version}-{samples[at].id}"
                score = np.array([0.9], np.float32)
                answered = replace(
                    samples[at], id=name, values={"score": 0.9}, tensors=(tensor("score", score),)
                )
                events += [told(replace(samples[at - 1], id=name)), told(answered)]
                labels.append(Label(name, (float(rng.random() >= share),), START))
        both = [
            Entry(self.place, self.place + 1000, events),
            Entry(self.place + 1000, self.place + 2000, labels=labels),
        ]
        self.place += 2000
        asyncio.run(self.parts.consumer.apply(both))

    def scrape(self):
        now = self.clock.now().timestamp()
        self.prometheus.scrape(now, "stable-1", self.stable.exposition())
        self.prometheus.scrape(now, "canary-1", self.canary.exposition())
        exposition = generate_latest(self.registry).decode()
        self.prometheus.scrape(now, "detector-1", exposition, job="detector")

    def engine(self):
        return gate(
            "outcome",
            stable=self.stable.version,
            canary=self.canary.version,
            prometheus=self.prometheus,
            clock=self.clock,
        )


@pytest.fixture
def shop(tmp_path):
    found = Shop(tmp_path / "one")
    yield found
    found.parts.close()


def run(shop, traffic, wrong, *, restart=None, labels=True):
    engine, rng = shop.engine(), np.random.default_rng(1)
    for look in range(LOOKS):
        shop.scrape()
        engine.look()
        shop.clock.sleep(INTERVAL)
        if look == restart:
            shop.parts.close()
            shop.begin()
        if labels:
            shop.traffic(traffic, wrong, rng, look)
        else:
            shop.stable.serve(str(look))
            shop.canary.serve(str(look))
    return engine


def test_a_canary_whose_answers_turn_out_wrong_is_rolled_back(shop, traffic):
    engine = run(shop, traffic, wrong=0.4)
    assert engine.state.phase in {Phase.ROLLING_BACK, Phase.ROLLED_BACK}
    (verdict,) = engine.state.verdicts
    assert (verdict.indicator, verdict.outcome) == ("outcome", "fail")


def test_a_canary_that_is_as_often_right_is_promoted(shop, traffic):
    engine = run(shop, traffic, wrong=0.02)
    assert engine.state.phase in {Phase.PROMOTING, Phase.PROMOTED}


def test_a_detector_that_starts_anew_changes_nothing_of_the_evidence(shop, traffic, tmp_path):
    other = Shop(tmp_path / "other")
    found = [run(shop, traffic, 0.02, restart=3), run(other, traffic, 0.02)]
    other.parts.close()
    assert {engine.state.phase for engine in found} <= {Phase.PROMOTING, Phase.PROMOTED}
    after, before = (engine.state.evidence["outcome"].totals for engine in found)
    assert after == before
    assert after.n_canary >= 4 * REQUESTS


def test_without_labels_the_canary_waits(shop, traffic):
    engine = run(shop, traffic, wrong=0.0, labels=False)
    assert engine.state.phase == Phase.PROGRESSING
