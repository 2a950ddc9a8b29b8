"""The step before the first weight: a bad canary never serves anybody, a good one goes on."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from tests.fixtures.shadow_cluster import SHADOW, StandInShadow, engine, place, spec

from davy.rollout.adapters.memory import MemoryJournal
from davy.rollout.decide import SHADOWING, STARTED
from davy.rollout.explain import explain
from davy.rollout.indicators import SHADOW_DIFFERENCES, SHADOW_ERRORS, SHADOW_SLOWNESS
from davy.rollout.picture import record_picture
from davy.rollout.record import Record
from davy.rollout.replay import replay
from davy.rollout.series import REQUESTS, SHADOW_DIFFERENT, SHADOW_REQUESTS, Arms
from davy.rollout.shadow import NAMES, of_tolerance
from davy.rollout.spec import RolloutSpec
from davy.rollout.standing import standing_of
from davy.rollout.state import Phase


def run(
    wanted: RolloutSpec | None = None, *, looks: int = 400, **cluster: Any
) -> tuple[Phase, StandInShadow, Record]:
    where, journal = place(**cluster), MemoryJournal()
    one = engine(where, journal, wanted or spec(SHADOW))
    for _ in range(looks):
        one.look()
        where.clock.sleep(5)
        if one.state.phase in (Phase.PROMOTED, Phase.ROLLED_BACK):
            break
    record = journal.read()
    assert record is not None
    assert replay(record).difference is None
    return one.state.phase, where, record


def test_a_canary_that_answers_as_it_should_gets_its_first_weight_and_takes_over() -> None:
    phase, where, record = run()
    assert (phase, where.asked) == (Phase.PROMOTED, [0, 5, 50, 100])
    first = next(line for line in record.looks if line.decision.action == "advance")
    assert first.decision.reason == STARTED
    assert "unserved" in first.decision.message
    seen = {v.indicator: v for v in first.verdicts if v.indicator in NAMES}
    assert {v.outcome for v in seen.values()} == {"pass"}
    # The requests end before the canary serves anybody, and begin once.
    assert where.told == ["begin", "end"]
    assert all(not mirrored for percent, mirrored in where.weights if percent)


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        ({"wrong": 0.2}, SHADOW_DIFFERENCES),
        ({"failed": 0.2}, SHADOW_ERRORS),
        ({"late": 0.4}, SHADOW_SLOWNESS),
    ],
)
def test_a_bad_canary_is_rolled_back_before_anybody_was_served(
    fault: dict[str, float], name: str
) -> None:
    phase, where, record = run(**fault)
    assert phase == Phase.ROLLED_BACK
    assert set(where.asked) == {0}
    last = next(line for line in record.looks if line.decision.action == "rollback")
    assert f"{name}: at least" in last.decision.message
    assert "served to nobody" in last.decision.message
    assert where.told == ["begin", "end"]


@pytest.mark.parametrize(
    ("ending", "phase"), [("Hold", Phase.INCONCLUSIVE), ("Rollback", Phase.ROLLED_BACK)]
)
def test_what_is_not_decided_at_the_deadline_never_goes_on(ending: str, phase: Phase) -> None:
    # As many differences as are allowed: neither bound can be shown.
    wanted = spec({"differences": 0.1}, onInconclusive=ending)
    found, where, record = run(wanted, wrong=0.1, looks=300)
    assert (found, set(where.asked)) == (phase, {0})
    assert where.told[-1] == "end"
    assert {line.decision.weight for line in record.looks} == {0}


@pytest.mark.parametrize("deaf", [1, 10_000])
def test_without_requests_it_waits_and_says_so(deaf: int) -> None:
    looks = 60
    phase, where, record = run(deaf=deaf, looks=looks)
    if deaf == 1:
        assert (phase, where.told) == (Phase.PROMOTED, ["begin", "end"])
        return
    assert (phase, where.asked, where.told) == (Phase.PENDING, [0], [])
    assert {line.decision.reason for line in record.looks} == {SHADOWING}


def test_a_detector_that_counts_nothing_is_named() -> None:
    phase, where, record = run(gone=True, looks=5)
    assert (phase, where.told) == (Phase.PENDING, ["begin"])
    said = record.looks[-1].decision
    assert said.reason == SHADOWING
    assert f"{SHADOW_ERRORS}: v2 has no series {SHADOW_REQUESTS}" in said.message


def test_what_is_sent_is_no_evidence_of_what_is_served() -> None:
    where, journal = place(failed=0.004), MemoryJournal()
    one = engine(where, journal, spec(SHADOW))
    while one.state.phase == Phase.PENDING:
        one.look()
        assert not one.state.evidence.keys() - NAMES
        where.clock.sleep(5)
    before = sum(where.totals[k] for k in where.totals if (k.metric, k.version) == (REQUESTS, "v2"))
    assert before > 800
    # Nor is it counted afterwards, as if it had been served at the first weight.
    seen = 0
    for _ in range(3):
        one.look()
        where.clock.sleep(5)
        seen = one.state.evidence["errors"].rate.requests
    served = sum(where.totals[k] for k in where.totals if (k.metric, k.version) == (REQUESTS, "v2"))
    assert 0 < seen <= served - before


def test_a_tolerance_picks_its_own_counter() -> None:
    where = place(mirrored=True)
    where.clock.sleep(3)
    series = where.series(Arms("v1", "v2"), None)
    left = of_tolerance(series, 1e-4)
    assert {item.key.detail for item in left if item.key.metric == SHADOW_DIFFERENT} == {"0.0001"}
    assert len(series) - len(left) == 1


def test_people_are_told() -> None:
    _, _, record = run(wrong=0.2)
    text = explain(record, replay(record))
    assert f"{SHADOW_DIFFERENCES}: fail: at least" in text
    assert "served to nobody" in text
    standing = {item.name: item for item in standing_of(record).indicators}
    assert standing[SHADOW_DIFFERENCES].allowance == 0.01
    assert standing[SHADOW_DIFFERENCES].events
    assert standing["errors"].allowance == 0.01
    _, _, promoted = run()
    assert "unserved" in explain(promoted, replay(promoted))
    assert record_picture(promoted, replay(promoted))
    heading = explain(promoted).splitlines()
    assert any("800 answers" in line for line in heading)


def test_a_rollout_shows_its_numbers() -> None:
    registry = CollectorRegistry()
    where = place()
    one = engine(where, MemoryJournal(), spec(SHADOW), registry=registry)
    one.look()
    labels = {"rollout": "r", "decision": "hold"}
    assert registry.get_sample_value("davy_rollout_decisions_total", labels) == 1
