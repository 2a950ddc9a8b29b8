"""Each reason and each guard, alone and together; what is not known holds."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from davy.retrain.decide import Observed, Past, decide, since
from davy.retrain.policy import Policy

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
FINE = Observed(
    performance=0.9,
    estimate=0.9,
    estimate_before=0.9,
    drifted=0,
    labels=5000.0,
    violations=0.0,
    rollouts=0,
)
BAD = replace(FINE, performance=0.7)


def policy(**changes: Any) -> Policy:
    fields: dict[str, Any] = {
        "model": "churn",
        "objective": {"metric": "roc_auc", "at_least": 0.8},
        "drift": {"loss": 0.05},
        "run": {"train": ["train"], "canary": ["canary", "{package}"]},
    }
    return Policy.model_validate(fields | changes)


def outcome(seen: Observed, past: Past | None = None, **changes: Any) -> str:
    return decide(policy(**changes), seen, past or Past(), NOW).outcome


def test_a_model_that_keeps_its_promise_is_left_alone() -> None:
    decision = decide(policy(), FINE, Past(), NOW)
    assert decision.outcome == "none"
    assert decision.reason == (
        "realised roc_auc is 0.9, promised at least 0.8; no feature has drifted"
    )


def test_one_below_it_is_trained() -> None:
    decision = decide(policy(), BAD, Past(), NOW)
    assert decision.outcome == "start"
    assert decision.reason == "realised roc_auc is 0.7, promised at least 0.8"


def test_a_measure_that_should_be_small_is_read_so() -> None:
    rmse = {"objective": {"metric": "rmse", "at_most": 0.8}}
    assert outcome(BAD, **rmse) == "none"
    assert outcome(FINE, **rmse) == "start"
    falls = replace(FINE, performance=0.5, drifted=1, estimate=0.7, estimate_before=0.5)
    assert outcome(falls, **rmse) == "start"
    assert outcome(replace(falls, estimate=0.5, estimate_before=0.7), **rmse) == "none"


def test_without_labels_the_estimate_counts() -> None:
    assert outcome(replace(BAD, performance=None, estimate=0.79)) == "start"
    assert outcome(replace(BAD, performance=None, estimate=0.81)) == "none"
    assert outcome(replace(FINE, estimate=0.1)) == "none"


def test_drift_alone_is_no_reason() -> None:
    assert outcome(replace(FINE, drifted=3)) == "none"
    assert outcome(replace(FINE, drifted=3, estimate=0.84)) == "start"
    assert outcome(replace(FINE, drifted=3, estimate=0.84), drift=None) == "none"
    assert outcome(replace(FINE, drifted=0, estimate=0.84)) == "none"
    told = decide(policy(), replace(FINE, drifted=3, estimate=None), Past(), NOW)
    assert told.outcome == "none"
    assert "no estimate tells what that costs" in told.reason


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rollouts": 1}, "a canary has some of the traffic"),
        ({"rollouts": None}, "nothing tells whether a rollout is in flight"),
        ({"labels": 999.0}, "999 labels since the last start, 1000 wanted"),
        ({"labels": None}, "nothing tells how many labels came"),
        ({"violations": 0.02}, "2.00% of the values break the contract, 1.00% may"),
        ({"violations": None}, "nothing tells how many values break the contract"),
    ],
)
def test_a_guard_holds_back_and_says_so(changes: dict[str, Any], said: str) -> None:
    decision = decide(policy(), replace(BAD, **changes), Past(), NOW)
    assert decision.outcome == "blocked"
    assert said in decision.reason
    assert decision.reason.startswith("realised roc_auc is 0.7")


@pytest.mark.parametrize(
    ("past", "expected"),
    [
        (Past(NOW - 6 * DAY), "blocked"),
        (Past(NOW - 7 * DAY), "start"),
        (Past(NOW - 8 * DAY, running=True), "blocked"),
        (Past(NOW + DAY), "blocked"),
    ],
)
def test_it_waits_after_a_start(past: Past, expected: str) -> None:
    assert outcome(BAD, past) == expected


def test_where_no_labels_are_wanted_none_are_asked_for() -> None:
    assert outcome(replace(BAD, labels=None), guards={"labels": 0}) == "start"


maybe = st.none() | st.floats(0, 1)


@given(
    st.builds(
        Observed,
        performance=maybe,
        estimate=maybe,
        estimate_before=maybe,
        drifted=st.none() | st.integers(0, 3),
        labels=st.none() | st.floats(0, 5000),
        violations=maybe,
        rollouts=st.none() | st.integers(0, 2),
    ),
    st.none() | st.timedeltas(-DAY, 30 * DAY),
    st.booleans(),
)
def test_whatever_is_seen_nothing_starts_without_a_reason_and_every_guard(
    seen: Observed, ago: timedelta | None, running: bool
) -> None:
    past = Past(None if ago is None else NOW - ago, running and ago is not None)
    if decide(policy(), seen, past, NOW).outcome != "start":
        return
    measured = seen.performance if seen.performance is not None else seen.estimate
    falls = seen.drifted and seen.estimate is not None and seen.estimate_before is not None
    assert (measured is not None and measured < 0.8) or falls
    assert seen.rollouts == 0
    assert seen.labels is not None
    assert seen.labels >= 1000
    assert seen.violations is not None
    assert seen.violations <= 0.01
    assert not past.running
    assert ago is None or ago >= 7 * DAY


def test_labels_are_new_since_the_last_start() -> None:
    assert since(policy(), Past(), NOW) == 28 * DAY
    assert since(policy(), Past(NOW - 9 * DAY), NOW) == 9 * DAY
    assert since(policy(), Past(NOW - 90 * DAY), NOW) == 28 * DAY
    assert since(policy(), Past(NOW + DAY), NOW) == 28 * DAY
