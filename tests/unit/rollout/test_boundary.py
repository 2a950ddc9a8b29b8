"""At the limit itself: a restart, a replay and an engine that goes on decide the same."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest

from davy.rollout.decide import decide
from davy.rollout.pods import PodCounts
from davy.rollout.record import Header, LookLine, Record, look_line
from davy.rollout.replay import replay, resume
from davy.rollout.sequential import Bounds
from davy.rollout.spec import RolloutSpec
from davy.rollout.state import Observation, State
from davy.rollout.verdict import Counts, Criterion, Evidence, Verdict, judge

START = datetime(2017, 1, 2, tzinfo=UTC)
LOOKS = 12
BAD, GOOD = Counts(900, 9, 100, 4), Counts(900, 90, 100, 9)


def spec(ratio: float, allowance: float = 0.0) -> RolloutSpec:
    return RolloutSpec.model_validate(
        {
            "candidate": {"version": "v2"},
            "steps": [{"weight": 10, "minRequests": 0, "minDuration": "0s"}],
            "analysis": {
                "interval": "10s",
                "indicators": [{"name": "errors", "ratio": ratio, "allowance": allowance}],
                "vetoes": [],
            },
        }
    )


def run(wanted: RolloutSpec, counts: Counts, *, restart_at: int | None) -> Record:
    """A record of an engine that, at one look, knows no more than what its record says."""
    header = Header(
        time=START,
        rollout="next-basket",
        generation=1,
        settings_hash=wanted.settings_hash(),
        spec=wanted.document(),
        stable="v1",
        canary="v2",
        latency_objective_seconds=0.1,
    )
    state, looks = State(), list[LookLine]()
    for look in range(LOOKS):
        if look == restart_at:
            state = resume(Record(header, tuple(looks)))
        now = START + timedelta(seconds=10 * look)
        seen = Observation(
            weight=state.weight,
            counts={"errors": counts} if look else {},
            start=now.timestamp() - 4,
            end=now.timestamp(),
            honoured=now.timestamp() - 5,
        )
        decision = decide(wanted, state, seen, now)
        looks.append(look_line(header, state.weight, seen, decision, now))
        state = decision.state
    return Record(header, tuple(looks))


def between(counts: Counts, *, upper: bool) -> float:
    """A ratio between the bounds that an engine finds at the last look, with and without restart.

    The search for a bound stops where it is near enough, and that depends on where it began; so
    here the two bounds differ, by less than the search promises.
    """
    found = []
    for restart_at in (None, LOOKS - 1):
        line = run(spec(50.0 if not upper else 1.001), counts, restart_at=restart_at).looks[-1]
        bound = line.verdicts[0].ratio_upper if upper else line.verdicts[0].ratio_lower
        assert bound is not None
        found.append(bound)
    assert 0 < abs(found[0] - found[1]) < 1e-5 * found[0], "the case shows nothing"
    return sum(found) / 2


@pytest.mark.parametrize(("counts", "upper"), [(BAD, False), (GOOD, True)])
def test_a_restarted_engine_and_a_replay_decide_as_the_engine_that_went_on(
    counts: Counts, upper: bool
) -> None:
    wanted = spec(between(counts, upper=upper))
    records = [run(wanted, counts, restart_at=at) for at in (None, LOOKS - 1)]
    outcomes = [record.looks[-1].verdicts[0].outcome for record in records]
    assert outcomes[0] == outcomes[1]
    assert [line.decision for line in records[0].looks] == [
        line.decision for line in records[1].looks
    ]
    for record in records:
        assert replay(record).difference is None


@pytest.mark.parametrize("allowance", [0.0, 0.001])
@pytest.mark.parametrize("factor", [1 - 1e-9, 1 + 1e-9])
def test_a_fail_is_what_the_evidence_against_the_limit_says(
    allowance: float, factor: float
) -> None:
    evidence = Evidence.empty()
    for _ in range(8):
        evidence = evidence.with_interval(BAD)
    reached = evidence.ratio.log_evidence_above(1.5)
    # The chance of error that this evidence just reaches, or just does not.
    alpha = math.exp(-reached * factor)
    criterion = Criterion("errors", 1.5, allowance, alpha_pass=0.05, alpha_fail=alpha)
    starts = [None, *(_near(at) for at in (0.4, 1.4999999, 1.5, 1.5000001, 3.0))]
    outcomes = {judge(criterion, evidence, near=near).outcome for near in starts}
    assert outcomes == {"fail" if factor < 1 else "inconclusive"}


@pytest.mark.parametrize("factor", [1 - 1e-9, 1 + 1e-9])
def test_a_gross_fail_is_what_the_evidence_says(factor: float) -> None:
    evidence = Evidence.empty()
    for _ in range(8):
        evidence = evidence.with_interval(
            Counts(900, 9, 100, 40), pods=[PodCounts("only", 100, 40)]
        )
    alpha = math.exp(-evidence.ratio.log_evidence_above(6 * 1.5) * factor)
    criterion = Criterion("slow", 1.5, 0.0, alpha_fail=alpha, alpha_pass=0.05, node_like=True)
    starts = [None, *(_near(at) for at in (8.9999999, 9.0, 9.0000001))]
    outcomes = {judge(criterion, evidence, near=near).outcome for near in starts}
    assert outcomes == {"fail" if factor < 1 else "inconclusive"}


def _near(at: float) -> Verdict:
    """A last look's verdict whose bounds lie there."""
    return Verdict("errors", "inconclusive", Bounds(at, at), Bounds(0.01, 0.1), "")
