"""A metric that a rule or a page names is one that the programs really have."""

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from tests.fixtures import tiny_package

from davy.detector.metrics import DetectorMetrics
from davy.detector.replay import ReplayMetrics
from davy.detector.shadow import ShadowMetrics
from davy.packaging.contract import Contract
from davy.predictor.families import MetricFamilies
from davy.predictor.metrics import PredictorMetrics
from davy.retrain.metrics import RetrainMetrics
from davy.rollout.metrics import RolloutMetrics
from davy.rollout.operator.health import OperatorMetrics

MONITORING = Path(__file__).parents[2] / "monitoring"
PAGES = sorted(
    [
        *MONITORING.glob("rules/*.yaml"),
        *MONITORING.glob("runbooks/*.md"),
        *MONITORING.glob("dashboards/*.json"),
        MONITORING / "README.md",
    ]
)
SUFFIXES = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_sum", "_count"),
    "gauge": ("",),
}


@pytest.fixture(scope="module")
def registered() -> set[str]:
    """Return the names under which Prometheus knows the series of every program."""
    registry = CollectorRegistry()
    contract = Contract.model_validate(tiny_package.contract(version="v1"))
    PredictorMetrics(MetricFamilies(registry), contract, "0")
    DetectorMetrics(registry)
    RolloutMetrics(registry)
    OperatorMetrics(registry)
    ReplayMetrics(registry)
    RetrainMetrics(registry)
    ShadowMetrics(registry)
    families: list[Metric] = list(registry.collect())
    return {
        family.name + suffix for family in families for suffix in SUFFIXES.get(family.type, ("",))
    }


def named(text: str) -> set[str]:
    return set(re.findall(r"\bdavy_[a-z0-9_]*[a-z0-9]", text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_metric_that_is_named_is_registered(page: Path, registered: set[str]) -> None:
    assert named(page.read_text()) <= registered


def test_the_rules_name_some() -> None:
    assert any(named(page.read_text()) for page in PAGES)
