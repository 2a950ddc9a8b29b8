"""What a spec may ask of the step before the first weight, and its part of the promise."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError
from tests.fixtures.shadow_cluster import SHADOW, spec

from davy.rollout.spec import RolloutSpec


def test_the_step_shares_the_promise_with_the_indicators() -> None:
    indicators = {"indicators": [{"name": "errors"}, {"name": "slow"}]}
    alone, both = (spec(shadow, analysis=indicators) for shadow in (None, SHADOW))
    spent = sum(item.alpha_fail for item in both.criteria())
    own = sum(item.alpha_fail for item in both.shadow_criteria())
    assert math.isclose(spent + own, both.analysis.false_rollback)
    assert math.isclose(sum(item.alpha_fail for item in alone.criteria()), 0.05)
    assert alone.shadow_criteria() == ()
    assert {item.alpha_pass for item in both.shadow_criteria()} == {both.analysis.false_promotion}


def test_a_spec_without_the_step_is_what_it_was() -> None:
    assert "shadow" not in spec(None).document()
    assert spec(None).settings_hash() != spec(SHADOW).settings_hash()
    assert RolloutSpec.model_validate(spec(SHADOW).document()) == spec(SHADOW)


@pytest.mark.parametrize(
    ("shadow", "changes", "match"),
    [
        ({"tolerance": 0.3}, {}, "tolerance must be one of 0.0001, .*, 1, not 0.3"),
        ({"differences": 0}, {}, "greater than 0"),
        ({"requests": 0}, {}, "greater than or equal to 1"),
        ({}, {"traffic": "Knative"}, "cannot be reached before it has traffic"),
    ],
)
def test_what_cannot_be_is_refused(
    shadow: dict[str, Any], changes: dict[str, Any], match: str
) -> None:
    with pytest.raises(ValidationError, match=match):
        spec(shadow, **changes)


def test_a_cluster_is_asked_for_standard_mode() -> None:
    assert [spec(shadow).mode for shadow in (None, SHADOW)] == ["Auto", "Standard"]
    assert spec(None, traffic="Knative").mode == "Knative"
