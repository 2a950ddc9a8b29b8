"""A metric that a rule or a page names is one that the programs really have."""

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from davy.detector.metrics import DetectorMetrics
from davy.packaging.contract import Contract
from davy.predictor.families import MetricFamilies
from davy.predictor.metrics import PredictorMetrics
from davy.rollout.engine import RolloutMetrics

MONITORING = Path(__file__).parents[2] / "monitoring"
PAGES = sorted(
    [*MONITORING.glob("rules/*.yaml"), *MONITORING.glob("runbooks/*.md"), MONITORING / "README.md"]
)
SUFFIXES = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_sum", "_count"),
    "gauge": ("",),
}


def contract() -> Contract:
    """Return as much of a contract as its metrics need."""
    return Contract.model_validate(
        {
            "name": "small",
            "version": "v1",
            "task": "small",
            "kind": "ranking",
            "quantization": "fp32",
            "created": "2017-12-31T00:00:00Z",
            "inputs": [],
            "outputs": [],
            "training": {
                "data_fingerprint": "0",
                "rows": 1,
                "start": "2017-01-01T00:00:00Z",
                "end": "2017-12-01T00:00:00Z",
                "code_version": "test",
                "seed": 1,
                "libraries": {},
            },
            "metrics": [],
            "baselines": {},
            "compression": {
                "budget": 0.01,
                "prefer": "size",
                "candidates": [],
                "chosen": "fp32",
                "why": "the only one",
            },
            "calibration": {"window_rows": 200, "blocks": 2},
            "rollout": {"latency_objective_seconds": 0.1},
            "privacy": {},
            "lineage": {},
        }
    )


@pytest.fixture(scope="module")
def registered() -> set[str]:
    """Return the names under which Prometheus knows the series of every program."""
    registry = CollectorRegistry()
    PredictorMetrics(MetricFamilies(registry), contract(), "0")
    DetectorMetrics(registry)
    RolloutMetrics(registry)
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
