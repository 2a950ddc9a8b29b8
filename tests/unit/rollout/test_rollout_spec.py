"""The ModelRollout file: what parses, what is refused and in which words."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import ValidationError

from davy.core.errors import InvalidInputError, NotFoundError
from davy.core.files import parse_model
from davy.data.gate import IndicatorName
from davy.packaging.contract import GateDefault
from davy.rollout.spec import RolloutSpec, duration_text, parse_duration, read_rollout

FULL = """
apiVersion: davylamp.dev/v1alpha1
kind: ModelRollout
metadata: {name: next-basket}
spec:
  inferenceServiceRef: {name: next-basket}
  candidate: {packageURI: "s3://models/next_basket", version: 2017.12.01-0a1b2c3d}
  traffic: Auto
  steps: [{weight: 1, minDuration: 5m}, {weight: 10}, {weight: 50, minRequests: 1000}]
  analysis:
    interval: 30s
    deadline: 24h
    falseRollback: 0.05
    falsePromotion: 0.05
    indicators: [{name: errors, ratio: 1.5, allowance: 0.001}, {name: slow, ratio: 1.2}]
    vetoes: [drift, signature, compression]
    prometheus: {url: "http://127.0.0.1:9090", selector: 'job="predictor"'}
  onInconclusive: Hold
  paused: false
"""


def document(**changes: Any) -> dict[str, Any]:
    return {"candidate": {"version": "v2"}, "steps": [{"weight": 5}], **changes}


def test_the_contracts_example_parses(tmp_path: Path) -> None:
    path = tmp_path / "rollout.yaml"
    path.write_text(FULL)
    rollout = read_rollout(path)
    assert rollout.metadata.name == "next-basket"
    assert rollout.spec.steps[0].min_duration == timedelta(minutes=5)
    assert rollout.spec.analysis.deadline == timedelta(days=1)
    assert rollout.spec.candidate.package_uri == "s3://models/next_basket"
    assert rollout.spec.stale_after == timedelta(seconds=90)


def test_a_spec_parses_back_to_itself() -> None:
    spec = RolloutSpec.model_validate(yaml.safe_load(FULL)["spec"])
    again = RolloutSpec.model_validate(spec.document())
    assert again == spec
    assert again.settings_hash() == spec.settings_hash()


def test_pausing_and_another_prometheus_are_no_other_rollout() -> None:
    """Evidence stays what it was: a rollout can be paused, and go on."""
    one = RolloutSpec.model_validate(document())
    other = RolloutSpec.model_validate(
        document(paused=True, analysis={"prometheus": {"url": "http://other:9090"}})
    )
    assert one.settings_hash() == other.settings_hash()


def test_any_change_changes_the_settings_hash() -> None:
    one = RolloutSpec.model_validate(document())
    other = RolloutSpec.model_validate(document(steps=[{"weight": 6}]))
    assert one.settings_hash() != other.settings_hash()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("5m", 300), ("24h", 86400), ("1h30m", 5400), ("0.5s", 0.5), ("0s", 0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text).total_seconds() == seconds
    assert parse_duration(duration_text(parse_duration(text))) == parse_duration(text)


@pytest.mark.parametrize("value", ["", "5", "5 m", "-5m", "m", 5, None, "5d", "1s1m"])
def test_what_is_no_duration(value: object) -> None:
    with pytest.raises(ValueError, match="duration such as 30s"):
        parse_duration(value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": []}, "steps"),
        ({"steps": [{"weight": 0}]}, "steps.0.weight"),
        ({"steps": [{"weight": 101}]}, "steps.0.weight"),
        ({"steps": [{"weight": 25}, {"weight": 25}]}, "must ascend"),
        ({"steps": [{"weight": 50}, {"weight": 5}]}, "must ascend"),
        ({"steps": [{"weight": 5, "minDuraton": "5m"}]}, "did you mean 'minDuration'"),
        ({"onInconclusive": "Promote"}, "onInconclusive"),
        ({"candidate": {}}, "candidate.version"),
        ({"analysis": {"indicators": [{"name": "erors"}]}}, "analysis.indicators.0.name"),
        ({"analysis": {"indicators": [{"name": "errors", "ratio": 0.9}]}}, "ratio"),
        ({"analysis": {"indicators": [{"name": "errors", "allowance": 1}]}}, "allowance"),
        ({"analysis": {"indicators": [{"name": "slow"}, {"name": "slow"}]}}, "named twice"),
        ({"analysis": {"interval": "0s"}}, "longer than 0s"),
        ({"analysis": {"interval": "1h", "deadline": "1m"}}, "nothing could be decided"),
        ({"analysis": {"falseRollback": 0}}, "falseRollback"),
        ({"analysis": {"interval": "soon"}}, "not a duration"),
    ],
)
def test_bad_specs_are_refused_by_name(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        parse_model(document(**changes), RolloutSpec, where="rollout.yaml")


def test_a_spec_is_frozen() -> None:
    spec = RolloutSpec.model_validate(document())
    with pytest.raises(ValidationError):
        spec.paused = True  # type: ignore[misc]


def test_indicators_come_from_the_package_when_the_spec_names_none() -> None:
    spec = RolloutSpec.model_validate(document())
    filled = spec.with_indicators([GateDefault(name="slow", ratio=1.2, allowance=0.02)])
    assert [item.name for item in filled.criteria()] == ["slow"]
    own = RolloutSpec.model_validate(document(analysis={"indicators": [{"name": "errors"}]}))
    assert own.with_indicators([GateDefault(name="slow", ratio=1.2, allowance=0.02)]) == own


@pytest.mark.parametrize("name", get_args(IndicatorName))
def test_every_indicator_that_a_task_may_ask_for_is_known(name: str) -> None:
    asked = [GateDefault(name=name, ratio=1.2, allowance=0.02)]
    filled = RolloutSpec.model_validate(document()).with_indicators(asked)
    assert [item.name for item in filled.criteria()] == [name]


def test_no_indicator_anywhere_is_an_error() -> None:
    with pytest.raises(InvalidInputError, match="no indicator"):
        RolloutSpec.model_validate(document()).with_indicators([])


def test_an_unknown_indicator_of_the_package_is_an_error() -> None:
    spec = RolloutSpec.model_validate(document())
    with pytest.raises(InvalidInputError, match="rollout defaults"):
        spec.with_indicators([GateDefault(name="revenue", ratio=1.2, allowance=0.02)])


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such file"):
        read_rollout(tmp_path / "none.yaml")
