"""A canary that is compared with a fresh copy of the stable arm: who is counted, told and promised.

Belongs here: the decision's side. Not here: how KServe runs three arms (`test_kserve_baseline`).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from pydantic import ValidationError
from tests.fixtures.rollout_cluster import StandInCluster

from davy.core.clock import ManualClock
from davy.packaging.contract import GateDefault
from davy.rollout.adapters.memory import DryRunTraffic, MemoryJournal, StatedPackages
from davy.rollout.back import Override, send_back
from davy.rollout.counters import NO_METRICS, Cursor, Reading, read_interval
from davy.rollout.engine import Engine
from davy.rollout.explain import explain
from davy.rollout.plan import Traffic, plan, words
from davy.rollout.ports import GateFacts
from davy.rollout.record import Record
from davy.rollout.record_file import parse_record
from davy.rollout.replay import replay
from davy.rollout.series import MODEL_INFO, OUTCOMES, REQUESTS, Arms, Sample, Series, SeriesKey
from davy.rollout.spec import RolloutSpec
from davy.rollout.standing import standing_of
from davy.rollout.state import Phase
from davy.rollout.status import ModelRolloutStatus, Standing, status_of
from davy.rollout.verdict import Counts

START = datetime(2017, 1, 2, tzinfo=UTC)
FACTS = GateFacts(0.1, (GateDefault(name="errors", ratio=1.5, allowance=0.01),))
ARMS = Arms("v1", "v2", "v1+baseline")


def spec(*, baseline: bool, **changes: Any) -> RolloutSpec:
    document: dict[str, Any] = {
        "candidate": {"version": "v2"},
        "steps": [{"weight": 5}, {"weight": 40}],
        "analysis": {"interval": "5s", "deadline": "10m", "vetoes": [], "baseline": baseline},
    }
    return RolloutSpec.model_validate(document | changes)


def run(
    *, baseline: bool, registry: CollectorRegistry | None = None, **cluster: Any
) -> tuple[Phase, StandInCluster, Record]:
    """A rollout to its end; new servers are up and scraped before it starts."""
    place, journal = StandInCluster(ManualClock(START), **cluster), MemoryJournal()
    wanted = spec(baseline=baseline)
    place.clock.sleep(5)
    place.serve(wanted.arms("v1"))
    engine = Engine(
        wanted,
        name="next-basket",
        stable="v1",
        traffic=place,
        metrics=place,
        journal=journal,
        packages=StatedPackages(FACTS),
        clock=place.clock,
        registry=registry,
    )
    phase = engine.run()
    record = journal.read()
    assert record is not None
    return phase, place, record


def test_what_all_fresh_servers_do_is_not_the_canarys_fault() -> None:
    fresh = {"fresh_errors": 0.05, "rate": 2000.0}
    assert run(baseline=False, **fresh)[0] == Phase.ROLLED_BACK
    phase, place, record = run(baseline=True, **fresh)
    assert (phase, place.asked) == (Phase.PROMOTED, [0, 5, 40, 100])
    assert record.header.arms() == ARMS


def test_a_worse_canary_is_rolled_back_all_the_same() -> None:
    phase, _, record = run(baseline=True, fresh_errors=0.02, canary_errors=0.2, rate=2000.0)
    assert phase == Phase.ROLLED_BACK
    assert replay(record).difference is None


def test_the_record_counts_the_baseline_and_replays() -> None:
    _, _, record = run(baseline=True, fresh_errors=0.05, rate=2000.0)
    outcome = replay(record)
    assert (outcome.difference, outcome.agreed) == (None, len(record.looks))
    at_five = [line for line in record.looks if line.weights.read == line.weights.asked == 5]
    counted = at_five[-1].intervals.counts[0]
    # Five percent of 2000 a second over five seconds, each.
    assert (counted.stable.n, counted.canary.n) == (500, 500)
    text = explain(record, outcome)
    assert "v2 against v1+baseline" in text
    assert "times the baseline's rate" in text
    standing = standing_of(record)
    assert (standing.stable, standing.against) == ("v1", "v1+baseline")


def test_each_arm_has_its_weight_in_the_metrics() -> None:
    registry = CollectorRegistry()
    place = StandInCluster(ManualClock(START), rate=2000.0)
    wanted = spec(baseline=True)
    place.clock.sleep(5)
    place.serve(ARMS)
    engine = Engine(
        wanted, name="r", stable="v1", traffic=place, metrics=place, journal=MemoryJournal(),
        packages=StatedPackages(FACTS), clock=place.clock, registry=registry,
    )  # fmt: skip
    shown: dict[int, set[tuple[str, str, float]]] = {}
    while engine.state.phase not in (Phase.PROMOTED, Phase.ROLLED_BACK):
        engine.look()
        seen = engine.observed
        assert seen is not None
        shown[seen.weight or 0] = {
            (item.labels["arm"], item.labels["version"], item.value)
            for family in registry.collect()
            for item in family.samples
            if item.name == "davy_rollout_weight"
        }
        place.clock.sleep(5)
    assert shown[40] == {
        ("stable", "v1", 20.0), ("canary", "v2", 40.0), ("baseline", "v1+baseline", 40.0)
    }  # fmt: skip
    assert shown[100] == {("stable", "v2", 100.0)}


@pytest.mark.parametrize("weights", [(5, 50), (50,), (1, 100)])
def test_a_weight_that_leaves_the_stable_arm_nothing_is_refused(weights: tuple[int, ...]) -> None:
    steps = [{"weight": weight} for weight in weights]
    with pytest.raises(ValidationError, match="at most 49"):
        spec(baseline=True, steps=steps)
    assert spec(baseline=False, steps=steps)
    assert spec(baseline=True, steps=[{"weight": 49}])


def test_a_record_from_before_there_was_a_choice_has_the_same_settings() -> None:
    document = spec(baseline=False).document()
    del document["paused"], document["analysis"]["prometheus"], document["analysis"]["baseline"]
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    before = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert spec(baseline=False).settings_hash() == before
    assert spec(baseline=True).settings_hash() != before


@pytest.mark.parametrize(
    ("percent", "shares"),
    [(0, (100, 0, 0)), (5, (90, 5, 5)), (49, (2, 49, 49)), (100, (0, 100, 0))],
)
def test_the_baseline_has_as_much_as_the_canary(percent: int, shares: tuple[int, int, int]) -> None:
    assert ARMS.shares(percent) == shares
    assert Arms("v1", "v2").shares(percent) == (100 - percent, percent, 0)


def read(rows: dict[tuple[str, str, str], tuple[float, float]], *names: str) -> Reading:
    """A second look: each series (metric, version, detail) at 10 s and at 20 s."""
    series = [
        Series(SeriesKey(metric, version, f"{version}:1", detail), (Sample(10, a), Sample(20, b)))
        for (metric, version, detail), (a, b) in rows.items()
    ]
    before = [Series(item.key, item.samples[:1]) for item in series]
    cursor = Cursor()
    for found, now in ((before, 11.0), (series, 21.0)):
        reading = read_interval(
            cursor, found, arms=ARMS, indicators=names, objective=0.1, now=now, stale_after=5
        )
        cursor = reading.cursor
    return reading


REQUESTED = {
    (REQUESTS, "v1", "ok"): (5.0, 9005.0),
    (REQUESTS, "v1", "server_error"): (0.0, 0.0),
    (REQUESTS, "v2", "ok"): (5.0, 505.0),
    (REQUESTS, "v1+baseline", "ok"): (5.0, 480.0),
    (REQUESTS, "v1+baseline", "server_error"): (5.0, 30.0),
}


def test_the_canary_is_compared_with_the_baseline_alone() -> None:
    reading = read(REQUESTED, "errors")
    assert reading.counts == {"errors": Counts(500, 25, 500, 0)}
    # The many pods of the stable arm would make each line of the record long for nothing.
    assert {key.version for key in reading.cursor.last} == {"v2", "v1+baseline"}


def test_what_others_count_knows_the_version_alone() -> None:
    outcomes = {
        (OUTCOMES, "v1", "right"): (5.0, 85.0),
        (OUTCOMES, "v1", "wrong"): (5.0, 25.0),
        (OUTCOMES, "v2", "right"): (5.0, 13.0),
        (OUTCOMES, "v2", "wrong"): (5.0, 9.0),
    }
    reading = read(REQUESTED | outcomes, "errors", "outcome")
    assert reading.counts["outcome"] == Counts(100, 20, 12, 4)
    assert not reading.absent


def test_a_baseline_that_nothing_is_known_of_is_no_evidence() -> None:
    rows = {key: row for key, row in REQUESTED.items() if "+" not in key[1]}
    missing = read(rows, "errors").missing
    assert missing is not None
    assert (missing.reason, missing.message) == (
        NO_METRICS, "baseline v1+baseline: no series of it"
    )  # fmt: skip
    alive = rows | {(MODEL_INFO, "v1+baseline", ""): (1.0, 1.0)}
    assert read(alive, "errors").counts == {"errors": Counts(0, 0, 500, 0)}


def test_the_status_says_all_three() -> None:
    before = ModelRolloutStatus()
    standing = Standing(generation=1, attempt=1, arms=ARMS, state=None)
    status = status_of(standing, before, START)
    assert status.versions is not None
    assert status.versions.arms() == ARMS
    assert (
        "baseline"
        not in status_of(
            Standing(generation=1, attempt=1, arms=Arms("v1", "v2")), before, START
        ).document()["versions"]
    )


def test_a_plan_knows_that_fewer_requests_are_compared() -> None:
    traffic = Traffic(200.0, {"slow": 0.02}, "stated")
    indicators = [{"name": "slow", "ratio": 1.5, "allowance": 0}]
    analysis = {"interval": "10s", "deadline": "4h", "indicators": indicators}
    steps = [{"weight": 5}]
    both = [
        plan(
            spec(baseline=False, steps=steps, analysis=analysis | {"baseline": baseline}),
            traffic,
            runs=60,
        )
        for baseline in (False, True)
    ]
    assert [any("fresh copy" in line for line in words(made)) for made in both] == [False, True]
    first = [made.indicators[0].first.requests or 0 for made in both]
    assert 1.5 < first[1] / first[0] < 3
    seconds = [made.healthy.promoted_seconds or 0 for made in both]
    assert seconds[1] > 1.3 * seconds[0]


@pytest.mark.parametrize(("to", "weight"), [("v1", 0), ("v2", 100)])
def test_a_persons_word_leaves_two_arms_to_the_router(to: str, weight: int) -> None:
    """Nothing is compared any more, and the copy's server may be down."""
    _, _, record = run(baseline=True, rate=2000.0)
    cut = replace(record, looks=record.looks[:3])
    journal, asked = MemoryJournal(cut.header, list(cut.looks)), list[tuple[Arms, int]]()

    class Router(DryRunTraffic):
        def set_weight(self, arms: Arms, percent: int) -> None:
            asked.append((arms, percent))
            super().set_weight(arms, percent)

    wanted = Override(to=to, by="on call", why="the sale begins")
    clock = ManualClock(START)
    end = send_back(wanted, journal=journal, header=cut.header, traffic=Router(), clock=clock)
    assert end.action == "finish"
    assert asked == [(Arms("v1", "v2"), weight)]
    written = journal.read()
    assert written is not None
    assert replay(written).difference is None


def test_a_header_without_a_baseline_is_one_of_two_arms() -> None:
    _, _, record = run(baseline=False)
    document = json.loads(record.header.model_dump_json())
    assert document.pop("baseline") == ""
    found = parse_record(json.dumps(document).encode() + b"\n", where="before")
    assert found is not None
    assert found.header.arms() == Arms("v1", "v2")
