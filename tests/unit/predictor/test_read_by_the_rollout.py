"""From what a predictor's metrics say, as text, to the rollout's verdict."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from tests.fixtures.scraped_exposition import StandInPrometheus

from davy.core.clock import ManualClock
from davy.packaging.package import Package
from davy.predictor.families import MetricFamilies
from davy.predictor.metrics import PredictorMetrics
from davy.predictor.model import load_model
from davy.predictor.plane import DataPlane
from davy.predictor.segments import SegmentReader, Segments
from davy.predictor.validation import InputPolicy
from davy.protocol.tensors import tensor
from davy.protocol.v2 import InferRequest
from davy.rollout.adapters.memory import DryRunTraffic, MemoryJournal, StatedPackages
from davy.rollout.adapters.prometheus_http import PrometheusHttp
from davy.rollout.counters import Cursor, read_interval
from davy.rollout.engine import Engine
from davy.rollout.ports import GateFacts
from davy.rollout.series import Arms
from davy.rollout.spec import RolloutSpec
from davy.rollout.state import Phase
from davy.rollout.verdict import Counts

START = datetime(2026, 1, 5, tzinfo=UTC)
INTERVAL = 30.0


class Arm:
    """A real data plane with metrics of its own, as a pod has them."""

    def __init__(self, package: Package, listed: Mapping[str, Sequence[str]]) -> None:
        self.registry = CollectorRegistry()
        model = load_model(package.path, public_key=None)
        segments = Segments.of(listed)
        self.metrics = PredictorMetrics(
            MetricFamilies(self.registry, segments), model.contract, model.identity
        )
        policy = InputPolicy(model.contract.inputs)
        reader = SegmentReader(segments, model.contract)
        self.plane = DataPlane(model, policy, self.metrics, segments=reader)
        self.version = model.contract.version

    def serve(self, amounts: Sequence[float], **parameters: str) -> None:
        columns = {
            "kind": np.zeros(len(amounts), np.int64),
            "amount": np.array(amounts, np.float32),
            "visits": np.zeros(len(amounts), np.float32),
            "channel": np.ones(len(amounts), np.int64),
        }
        inputs = tuple(tensor(name, values) for name, values in columns.items())
        request = InferRequest(inputs, parameters=parameters)
        self.plane.infer(request)
        # What the adapters count of a request that was answered.
        self.metrics.request("ok", 0.001, self.plane.segment(request))

    def exposition(self) -> str:
        return generate_latest(self.registry).decode()


class Shop:
    """Two arms, scraped by a stand-in Prometheus."""

    def __init__(self, stable: Package, canary: Package, **listed: Sequence[str]) -> None:
        self.stable, self.canary = Arm(stable, listed), Arm(canary, listed)
        self.prometheus = StandInPrometheus()
        self.clock = ManualClock(START)

    def scrape(self) -> None:
        now = self.clock.now().timestamp()
        self.prometheus.scrape(now, "stable-1", self.stable.exposition())
        self.prometheus.scrape(now, "canary-1", self.canary.exposition())

    def reader(self, segments: Sequence[str] = ()) -> PrometheusHttp:
        return PrometheusHttp(
            "http://127.0.0.1:9",
            clock=self.clock,
            segments=segments,
            transport=self.prometheus.transport(),
        )

    @property
    def arms(self) -> Arms:
        return Arms(self.stable.version, self.canary.version)

    def counts(self, *indicators: str, segments: Sequence[str] = ()) -> Any:
        """Return what an interval counts in which `both` was served."""
        cursor = Cursor()
        for moment in range(2):
            if moment:
                self.clock.sleep(INTERVAL)
                self.traffic()
            self.scrape()
            reading = read_interval(
                cursor,
                self.reader(segments).series(self.arms, cursor.newest),
                arms=self.arms,
                indicators=indicators,
                objective=0.1,
                now=self.clock.now().timestamp(),
                stale_after=60,
            )
            cursor = reading.cursor
        assert reading.missing is None
        assert not reading.absent
        return reading.counts

    def traffic(self) -> None:
        for _ in range(30):
            self.stable.serve([1.0, 2.0])
        for _ in range(10):
            self.canary.serve([1.0, 2.0])
        self.canary.serve([float("nan"), 1.0, float("nan")])
        self.canary.serve([float("nan")])


@pytest.fixture
def packages(tiny: ModuleType, tmp_path: Path) -> tuple[Package, Package]:
    """Two versions whose model answers NaN where an amount is missing."""
    inputs = tiny.contract()["inputs"]
    inputs[1]["missing"] = "flag"
    stable, canary = (
        tiny.write_tiny_package(tmp_path / name, weight=weight, inputs=inputs)
        for name, weight in (("stable", 0.03), ("canary", 0.04))
    )
    return stable, canary


def test_answers_that_break_the_contract_are_counted_in_requests(
    packages: tuple[Package, Package],
) -> None:
    counts = Shop(*packages).counts("contract")["contract"]
    assert (counts.n_stable, counts.k_stable) == (30, 0)
    assert (counts.n_canary, counts.k_canary) == (12, 2)


def rollout(
    shop: Shop, bad: Mapping[str, float], *, split: bool = False, looks: int = 20
) -> Engine:
    """Look at a canary of which a share of the answers is NaN, by country.

    One request of ten comes from the last of the countries.
    """
    indicator: dict[str, Any] = {"name": "contract", "ratio": 1.5, "allowance": 0.05}
    if split:
        indicator["segments"] = {"label": "country", "values": list(bad)}
    spec = RolloutSpec.model_validate(
        {
            "candidate": {"version": shop.canary.version},
            "steps": [{"weight": 50, "minRequests": 0}],
            "analysis": {
                "interval": f"{INTERVAL:g}s",
                "deadline": "1h",
                "vetoes": [],
                "indicators": [indicator],
            },
        }
    )
    engine = Engine(
        spec,
        name="r",
        stable=shop.stable.version,
        traffic=DryRunTraffic(),
        metrics=shop.reader(spec.segment_labels()),
        journal=MemoryJournal(),
        packages=StatedPackages(GateFacts(0.1, ())),
        clock=shop.clock,
    )
    rng = np.random.default_rng(1)
    for _ in range(looks):
        shop.scrape()
        engine.look()
        shop.clock.sleep(INTERVAL)
        for place in range(50):
            country = [*bad][-1 if place % 10 == 0 else 0]
            shop.stable.serve([1.0], country=country)
            broken = rng.random() < bad[country]
            shop.canary.serve([float("nan") if broken else 1.0], country=country)
    return engine


def test_a_canary_that_answers_nan_is_rolled_back(packages: tuple[Package, Package]) -> None:
    engine = rollout(Shop(*packages), {"de": 0.3})
    assert engine.state.phase in {Phase.ROLLING_BACK, Phase.ROLLED_BACK}


def test_a_canary_that_answers_as_it_should_is_promoted(packages: tuple[Package, Package]) -> None:
    engine = rollout(Shop(*packages), {"de": 0.0})
    assert engine.state.phase in {Phase.PROMOTING, Phase.PROMOTED}


def test_a_segment_is_counted_apart_and_in_the_whole(packages: tuple[Package, Package]) -> None:
    shop = Shop(*packages, country=["de", "at"])
    counts = shop.counts(
        "contract", "contract[country=at]", "contract[country=other]", segments=["country"]
    )
    assert counts["contract"] == Counts(30, 0, 12, 2)
    assert counts["contract[country=at]"] == Counts(0, 0, 0, 0)
    assert counts["contract[country=other]"] == Counts(30, 0, 12, 2)


def test_a_defect_of_one_country_is_rolled_back(packages: tuple[Package, Package]) -> None:
    defect = {"de": 0.0, "at": 0.5}
    shop = Shop(*packages, country=["de", "at"])
    engine = rollout(shop, defect, split=True)
    assert engine.state.phase in {Phase.ROLLING_BACK, Phase.ROLLED_BACK}
    # The whole has one request of twenty broken, which is what is allowed.
    whole = rollout(Shop(*packages, country=["de", "at"]), defect)
    assert whole.state.phase not in {Phase.ROLLING_BACK, Phase.ROLLED_BACK}


def test_a_canary_that_is_sound_in_each_country_is_promoted(
    packages: tuple[Package, Package],
) -> None:
    shop = Shop(*packages, country=["de", "at"])
    engine = rollout(shop, {"de": 0.0, "at": 0.0}, split=True, looks=60)
    assert engine.state.phase in {Phase.PROMOTING, Phase.PROMOTED}


def test_a_predictor_without_the_label_is_not_promoted(packages: tuple[Package, Package]) -> None:
    engine = rollout(Shop(*packages), {"de": 0.0, "at": 0.0}, split=True, looks=60)
    assert engine.state.phase is Phase.PROGRESSING
