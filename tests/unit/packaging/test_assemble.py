from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import pytest

from davy.data.gate import IndicatorName
from davy.data.task import Indicator, Rollout, Task, load_task
from davy.packaging.assemble import Findings, assemble
from davy.packaging.contract import Contract, Period, Range
from davy.rollout.spec import Candidate, RolloutSpec, Step

CREATED = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task(Path(__file__).parents[3] / "pipelines/tasks/next_basket.yaml")


@pytest.fixture
def found(draft: Contract) -> Findings:
    return Findings(
        fingerprint="a" * 64,
        pseudonymised=["household_id"],
        rows=1000,
        start=datetime(2017, 1, 1, tzinfo=UTC),
        end=datetime(2017, 2, 1, tzinfo=UTC),
        seed=7,
        libraries={"torch": "2.5.1"},
        metrics=draft.metrics,
        baselines=draft.baselines,
        measured=Period(
            start=datetime(2017, 3, 1, tzinfo=UTC), end=datetime(2017, 3, 28, tzinfo=UTC)
        ),
        compression=draft.compression,
        calibration=draft.calibration,
        outliers=draft.outliers,
    )


def made(task: Task, found: Findings) -> Contract:
    return assemble(
        task, found, created=CREATED, code_version="0.1.0+x", parent="v0", pipeline_run="run-1"
    )


def test_inputs_are_the_task_s_features_in_order(task: Task, found: Findings) -> None:
    inputs = made(task, found).inputs
    assert [item.name for item in inputs] == [feature.name for feature in task.features]
    by_name = {item.name: item for item in inputs}
    recency = by_name["days_since_basket"]
    assert (recency.datatype, recency.unit, recency.policy) == ("INT64", "day", "flag")
    assert recency.range == Range(low=0, high=60)
    price = by_name["unit_price"]
    assert (price.datatype, price.unit, price.missing) == ("FP32", "dollar", "flag")
    assert by_name["mean_gap_days"].missing == "allow"
    assert all(item.shape == [-1] for item in inputs)


def test_a_feature_without_range_is_open(task: Task, found: Findings) -> None:
    feature = task.features[1].model_copy(update={"range": None})
    open_task = task.model_copy(update={"features": (feature,)})
    assert made(open_task, found).inputs[0].range is None


def test_the_output_is_a_score(task: Task, found: Findings) -> None:
    (score,) = made(task, found).outputs
    assert (score.name, score.datatype, score.range) == ("score", "FP32", Range(low=0, high=1))


def test_findings_and_lineage_reach_their_fields(task: Task, found: Findings) -> None:
    contract = made(task, found)
    assert contract.version == ""
    assert contract.created == CREATED
    assert contract.training.data_fingerprint == found.fingerprint
    assert contract.training.code_version == "0.1.0+x"
    assert contract.metrics == list(found.metrics)
    assert contract.baselines == found.baselines
    assert contract.outliers == found.outliers is not None
    assert contract.measured == found.measured
    assert contract.compression == found.compression
    assert contract.calibration == found.calibration
    assert contract.privacy.pseudonymised == ["household_id"]
    assert (contract.lineage.parent, contract.lineage.pipeline_run) == ("v0", "run-1")
    assert contract.segments == ["shopper", "lapse"]
    assert contract.rollout.latency_objective_seconds == 0.1
    assert [(item.name, item.ratio) for item in contract.rollout.indicators] == [
        ("errors", 1.5),
        ("slow", 1.5),
    ]


@pytest.mark.parametrize(("ratio", "allowance"), [(1.0, 0.0), (99.9, 0.999)])
def test_the_gate_takes_whatever_a_task_may_ask_of_it(
    task: Task, found: Findings, ratio: float, allowance: float
) -> None:
    asked = tuple(
        Indicator(name=name, ratio=ratio, allowance=allowance) for name in get_args(IndicatorName)
    )
    asking = task.model_copy(update={"rollout": Rollout(indicators=asked)})
    defaults = made(asking, found).rollout.indicators
    spec = RolloutSpec(candidate=Candidate(version="v1"), steps=(Step(weight=10),))
    taken = spec.with_indicators(defaults).analysis.indicators
    assert [(item.name, item.ratio, item.allowance) for item in taken] == [
        (item.name, item.ratio, item.allowance) for item in asked
    ]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [("fp32", "fp32"), ("int8", "int8"), ("pruned", "fp32"), ("pruned_int8", "int8")],
)
def test_quantization_is_that_of_the_choice(
    task: Task, found: Findings, draft: Contract, chosen: str, expected: str
) -> None:
    choice = draft.compression.model_copy(update={"chosen": chosen})
    findings = Findings(
        **{name: getattr(found, name) for name in Findings.__slots__} | {"compression": choice}
    )
    assert made(task, findings).quantization == expected
