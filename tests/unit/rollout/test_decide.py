"""The decision: which reason comes first, and that nothing inconclusive promotes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from davy.rollout import decide as decisions
from davy.rollout.counters import METRICS_STALE, Missing
from davy.rollout.decide import Decision, decide, pause_after
from davy.rollout.spec import RolloutSpec
from davy.rollout.state import Observation, Phase, State
from davy.rollout.verdict import Counts, Evidence
from davy.rollout.vetoes import Veto

START = datetime(2017, 1, 2, tzinfo=UTC)
PASS = Counts(95_000, 0, 5_000, 0)
FAIL = Counts(950, 0, 50, 25)
OPEN = Counts(950, 1, 50, 0)
NONE = Counts(0, 0, 0, 0)


def spec(**changes: Any) -> RolloutSpec:
    document = {
        "candidate": {"version": "v2"},
        "steps": [{"weight": 5, "minDuration": "60s"}, {"weight": 50}],
        "analysis": {
            "interval": "30s",
            "deadline": "1h",
            "indicators": [{"name": "errors", "allowance": 0.01}],
            "vetoes": ["signature"],
        },
    }
    return RolloutSpec.model_validate(document | changes)


def state(counts: Counts = NONE, **changes: Any) -> State:
    before = State(
        phase=Phase.PROGRESSING,
        step=0,
        weight=5,
        started=START,
        honoured_since=START,
        step_requests=1000,
        evidence={"errors": Evidence.empty().with_interval(counts)},
    )
    return replace(before, **changes)


def seen(counts: Counts = NONE, **changes: Any) -> Observation:
    before = Observation(
        weight=5,
        counts={} if "missing" in changes else {"errors": counts},
        start=START.timestamp() + 60,
        end=START.timestamp() + 120,
        vetoes=(Veto("signature", active=False, message="verified"),),
    )
    return replace(before, **changes)


def at(
    before: State,
    observation: Observation,
    *,
    seconds: float = 120,
    changes: Mapping[str, Any] | None = None,
) -> Decision:
    return decide(spec(**(changes or {})), before, observation, START + timedelta(seconds=seconds))


VETO = (Veto("signature", active=True, message="does not verify"),)
STALE = {"missing": Missing(METRICS_STALE, "old")}


@pytest.mark.parametrize(
    ("before", "observation", "action", "reason"),
    [
        # All pass, and nothing against it.
        (state(PASS), seen(), "advance", decisions.ALL_PASSED),
        (state(PASS, step=1, weight=50), seen(weight=50), "promote", decisions.ALL_PASSED),
        # A fail goes back, whatever else is the case.
        (state(), seen(FAIL), "rollback", decisions.INDICATOR_FAILED),
        (state(FAIL), seen(weight=7), "rollback", decisions.INDICATOR_FAILED),
        (state(FAIL), seen(**STALE), "rollback", decisions.INDICATOR_FAILED),
        (state(FAIL), seen(vetoes=VETO), "rollback", decisions.INDICATOR_FAILED),
        (
            state(FAIL, phase=Phase.INCONCLUSIVE),
            seen(),
            "rollback",
            decisions.INDICATOR_FAILED,
        ),
        (
            state(FAIL, phase=Phase.PROMOTING, weight=100),
            seen(weight=50),
            "rollback",
            decisions.INDICATOR_FAILED,
        ),
        # All pass, and something against it: never on.
        (state(PASS), seen(weight=7), "hold", decisions.WEIGHT_NOT_HONOURED),
        (state(PASS), seen(weight=None), "hold", decisions.WEIGHT_UNKNOWN),
        (state(PASS), seen(not_ready=("v2",)), "hold", decisions.ARM_NOT_READY),
        (state(PASS), seen(**STALE), "hold", METRICS_STALE),
        (state(PASS), seen(vetoes=VETO), "hold", decisions.VETO_ACTIVE),
        (state(PASS), seen(vetoes=()), "hold", decisions.VETO_ACTIVE),
        (state(PASS, step_requests=0), seen(), "hold", decisions.NOT_ENOUGH_REQUESTS),
        (
            state(PASS, honoured_since=START + timedelta(seconds=90)),
            seen(),
            "hold",
            decisions.MINIMUM_DURATION,
        ),
        # Not decided.
        (state(), seen(OPEN), "hold", decisions.INCONCLUSIVE),
        (state(), seen(NONE), "hold", decisions.INCONCLUSIVE),
        # Before the first step.
        (State(), seen(weight=0), "advance", decisions.STARTED),
        (State(), seen(weight=None), "hold", decisions.WEIGHT_UNKNOWN),
        (State(), seen(weight=0, not_ready=("v2",)), "hold", decisions.ARM_NOT_READY),
        (State(), seen(weight=0, **STALE), "hold", METRICS_STALE),
        (State(), seen(weight=0, vetoes=VETO), "hold", decisions.VETO_ACTIVE),
        # Under way to an end.
        (
            state(phase=Phase.PROMOTING, weight=100),
            seen(weight=100),
            "finish",
            decisions.WEIGHT_HONOURED,
        ),
        (
            state(phase=Phase.PROMOTING, weight=100),
            seen(weight=50),
            "hold",
            decisions.WEIGHT_NOT_HONOURED,
        ),
        (
            state(FAIL, phase=Phase.ROLLING_BACK, weight=0),
            seen(weight=0),
            "finish",
            decisions.WEIGHT_HONOURED,
        ),
        (
            state(FAIL, phase=Phase.ROLLING_BACK, weight=0),
            seen(weight=5),
            "hold",
            decisions.WEIGHT_NOT_HONOURED,
        ),
        # Ended.
        (state(FAIL, phase=Phase.PROMOTED, weight=100), seen(), "hold", decisions.FINISHED),
        (state(PASS, phase=Phase.ROLLED_BACK, weight=0), seen(), "hold", decisions.FINISHED),
    ],
)
def test_decisions(before: State, observation: Observation, action: str, reason: str) -> None:
    decision = at(before, observation)
    assert (decision.action, decision.reason) == (action, reason), decision.message


def test_each_step_asks_for_its_weight() -> None:
    started = at(State(), seen(weight=0)).state
    assert (started.step, started.weight, started.phase) == (0, 5, Phase.PROGRESSING)
    second = at(state(PASS), seen()).state
    assert (second.step, second.weight, second.honoured_since) == (1, 50, None)
    # Evidence goes on over steps; what was seen at a weight does not.
    assert second.evidence["errors"].rate.requests == PASS.n_canary
    assert second.step_requests == 0
    promoting = at(state(PASS, step=1, weight=50), seen(weight=50)).state
    assert (promoting.weight, promoting.phase) == (100, Phase.PROMOTING)
    back = at(state(), seen(FAIL)).state
    assert (back.weight, back.phase) == (0, Phase.ROLLING_BACK)


def test_the_failing_indicator_is_named() -> None:
    assert "errors: at least" in at(state(), seen(FAIL)).message


def test_paused_holds_and_still_rolls_back() -> None:
    assert at(state(PASS), seen(paused=True)).reason == decisions.PAUSED
    assert at(state(FAIL), seen(paused=True)).action == "rollback"


@pytest.mark.parametrize("counts", [PASS, OPEN])
def test_the_deadline_holds_or_rolls_back_and_never_promotes(counts: Counts) -> None:
    before = state(counts, step=1, weight=50)
    held = at(before, seen(weight=50), seconds=3600)
    assert (held.action, held.reason) == ("hold", decisions.DEADLINE_EXCEEDED)
    assert (held.state.phase, held.state.weight) == (Phase.INCONCLUSIVE, 50)
    later = at(held.state, seen(PASS, weight=50), seconds=3700)
    assert later.state.phase == Phase.INCONCLUSIVE
    back = at(before, seen(weight=50), seconds=3600, changes={"onInconclusive": "Rollback"})
    assert (back.action, back.reason) == ("rollback", decisions.DEADLINE_EXCEEDED)
    assert back.state.weight == 0


def test_the_deadline_counts_from_the_first_look() -> None:
    first = at(State(), seen(weight=None), seconds=0)
    assert first.state.started == START
    held = at(first.state, seen(weight=None), seconds=3600)
    assert held.reason == decisions.DEADLINE_EXCEEDED


def test_a_weight_is_honoured_from_the_look_that_reads_it() -> None:
    before = state(PASS, honoured_since=None, step_requests=0)
    first = at(before, seen(OPEN), seconds=120)
    assert first.state.honoured_since == START + timedelta(seconds=120)
    # That interval began before: it is no comparison, and no request of this step.
    assert first.state.step_requests == 0
    assert first.state.evidence["errors"].totals.n_stable == PASS.n_stable
    second = at(first.state, seen(OPEN, start=START.timestamp() + 120), seconds=150)
    assert second.state.step_requests == OPEN.n_canary
    lost = at(second.state, seen(weight=50), seconds=240)
    assert lost.state.honoured_since is None


def test_a_weight_counts_from_when_the_router_was_seen_to_honour_it() -> None:
    before = state(PASS, honoured_since=None, step_requests=0)
    honoured = START.timestamp() + 95
    first = at(before, seen(OPEN, start=START.timestamp() + 90, honoured=honoured), seconds=120)
    assert first.state.honoured_since == START + timedelta(seconds=95)
    # The weight changed within this interval; the next began after it, at the last scrape before
    # this look.
    assert first.state.step_requests == 0
    second = at(first.state, seen(OPEN, start=START.timestamp() + 119), seconds=150)
    assert second.state.step_requests == OPEN.n_canary
    lost = at(before, seen(weight=50, honoured=honoured), seconds=120)
    assert lost.state.honoured_since is None


def test_a_young_step_waits_even_without_a_minimum() -> None:
    quick = {"steps": [{"weight": 5, "minRequests": 0}]}
    before = state(PASS, honoured_since=None, step_requests=0)
    assert at(before, seen(), changes=quick).reason == decisions.MINIMUM_DURATION


@pytest.mark.parametrize(
    ("seconds", "factor"),
    [(0, 1), (3599, 1), (3600, 1), (7200, 2), (18000, 5), (36000, 10), (10**7, 10)],
)
def test_past_the_deadline_looks_are_as_rare_as_it_is_late(seconds: float, factor: float) -> None:
    held = at(state(OPEN), seen(OPEN), seconds=seconds).state
    pause = pause_after(spec(), held, START + timedelta(seconds=seconds))
    assert pause == factor * spec().analysis.interval


@pytest.mark.parametrize("phase", [Phase.PROMOTING, Phase.ROLLING_BACK, Phase.PROGRESSING])
def test_what_is_not_held_is_looked_at_as_often_as_ever(phase: Phase) -> None:
    going = state(OPEN, phase=phase)
    pause = pause_after(spec(), going, START + timedelta(days=3))
    assert pause == spec().analysis.interval


observations = st.builds(
    lambda weight, counts, not_ready, missing, veto: Observation(
        weight=weight,
        counts={} if missing else {"errors": counts},
        missing=Missing(METRICS_STALE, "old") if missing else None,
        start=START.timestamp() + 60,
        not_ready=not_ready,
        vetoes=(Veto("signature", active=veto, message=""),),
    ),
    st.sampled_from([0, 5, 50, 100, None]),
    st.sampled_from([PASS, FAIL, OPEN, NONE]),
    st.sampled_from([(), ("v2",)]),
    st.booleans(),
    st.booleans(),
)


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(list(Phase)),
    st.sampled_from([PASS, FAIL, OPEN, NONE]),
    observations,
    st.floats(0, 7200),
)
def test_going_on_always_rests_on_passes_alone(
    phase: Phase, counts: Counts, observation: Observation, seconds: float
) -> None:
    decision = at(state(counts, phase=phase), observation, seconds=seconds)
    if decision.action == "promote" or (decision.action == "advance" and phase != Phase.PENDING):
        assert all(verdict.outcome == "pass" for verdict in decision.verdicts)
        assert observation.missing is None
        assert observation.weight == 5
        assert not observation.not_ready
        assert not any(veto.active for veto in observation.vetoes)
        assert seconds < 3600
    if decision.state.weight > 5 and phase == Phase.PROGRESSING:
        assert decision.action in {"promote", "advance"}
