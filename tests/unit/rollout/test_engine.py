"""The engine with every outside thing stood in for: order, resuming after a crash, its metrics."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from rollout_cluster import CrashedHereError, StandInCluster
from tests.fixtures.crashing_journal import JournalThatMayCrash
from tests.fixtures.kill_sweeps import CRASH_POINTS

from davy.core.clock import ManualClock
from davy.core.errors import ConflictError, UnavailableError
from davy.packaging.contract import GateDefault
from davy.rollout.adapters.folder_journal import FolderJournal
from davy.rollout.adapters.memory import DryRunTraffic, MemoryJournal, StatedPackages
from davy.rollout.counters import METRICS_UNAVAILABLE
from davy.rollout.decide import PAUSED, Decision
from davy.rollout.engine import Engine
from davy.rollout.ports import GateFacts
from davy.rollout.record import Record
from davy.rollout.record_file import read_record
from davy.rollout.replay import replay
from davy.rollout.series import Arms
from davy.rollout.spec import RolloutSpec
from davy.rollout.state import Phase
from davy.rollout.vetoes import Veto

START = datetime(2017, 1, 2, tzinfo=UTC)
FACTS = GateFacts(0.1, (GateDefault(name="errors", ratio=1.5, allowance=0.01),))
PACKAGES = StatedPackages(FACTS, (Veto("signature", active=False, message="verified"),))


def spec(**changes: Any) -> RolloutSpec:
    document: dict[str, Any] = {
        "candidate": {"version": "v2"},
        "steps": [{"weight": 5}, {"weight": 50}],
        "analysis": {"interval": "5s", "deadline": "10m", "vetoes": ["signature"]},
    }
    return RolloutSpec.model_validate(document | changes)


def engine(
    cluster: StandInCluster, journal: Any, *, wanted: RolloutSpec | None = None, **changes: Any
) -> Engine:
    return Engine(
        wanted or spec(),
        name="next-basket",
        stable="v1",
        traffic=changes.get("traffic", cluster),
        metrics=cluster,
        journal=journal,
        packages=PACKAGES,
        clock=cluster.clock,
        registry=changes.get("registry"),
    )


def cluster(**changes: Any) -> StandInCluster:
    made = StandInCluster(ManualClock(START), **changes)
    # Both arms are up and scraped before the rollout starts.
    made.clock.sleep(5)
    made.serve(Arms("v1", "v2"))
    return made


def test_a_good_canary_is_promoted_step_by_step() -> None:
    place, journal = cluster(), MemoryJournal()
    assert engine(place, journal).run() == Phase.PROMOTED
    assert place.asked == [0, 5, 50, 100]
    actions = [line.decision.action for line in journal.lines if line.decision.action != "hold"]
    assert actions == ["advance", "advance", "promote", "finish"]


def test_a_bad_canary_is_rolled_back_soon_and_the_indicator_is_named() -> None:
    place, journal = cluster(canary_errors=0.2), MemoryJournal()
    assert engine(place, journal).run() == Phase.ROLLED_BACK
    assert place.asked == [0, 5, 0]
    assert place.weight == 0
    fails = [line for line in journal.lines if line.decision.action == "rollback"]
    assert "errors: at least" in fails[0].decision.message
    assert len(journal.lines) < 12


def test_every_decision_of_a_run_is_recomputed_from_its_record() -> None:
    for errors in (0.0, 0.2):
        journal = MemoryJournal()
        engine(cluster(canary_errors=errors), journal).run()
        outcome = replay(_read(journal))
        assert outcome.difference is None
        assert outcome.agreed == len(journal.lines)


def _read(journal: MemoryJournal) -> Record:
    record = journal.read()
    assert record is not None
    return record


def crashing_run(folder: Path, crash_at: int, errors: float) -> tuple[StandInCluster, int]:
    """Run to the end with one crash; return the cluster and how many processes it took."""
    place = cluster(canary_errors=errors, crash_at=crash_at, rate=2000.0)
    for process in range(1, 4):
        with JournalThatMayCrash(folder, place) as journal:
            try:
                engine(place, journal).run()
            except CrashedHereError:
                continue
            return place, process
    raise AssertionError("did not end")


@pytest.mark.parametrize("errors", [0.0, 0.2])
def test_a_crash_between_any_two_side_effects_changes_nothing(
    tmp_path: Path, errors: float, record_property: Callable[[str, object], None]
) -> None:
    whole, processes = crashing_run(tmp_path / "whole", -1, errors)
    assert processes == 1
    expected = read_record(tmp_path / "whole" / "record.jsonl")
    ends = [line.decision.phase for line in expected.looks][-1]
    crashed = 0
    for point in range(1, whole.effects + 1):
        folder = tmp_path / str(point)
        place, processes = crashing_run(folder, point, errors)
        crashed += processes - 1
        record = read_record(folder / "record.jsonl")
        assert replay(record).difference is None
        assert record.looks[-1].decision.phase == ends
        assert place.weight == whole.weight
        # No weight is skipped; asking twice for one is no change.
        distinct = [w for i, w in enumerate(place.asked) if i == 0 or w != place.asked[i - 1]]
        assert distinct == whole.asked
        # Each request is counted once: intervals follow each other without gap or overlap.
        spans = [
            (line.intervals.start, line.intervals.end)
            for line in record.looks
            if line.intervals.end is not None
        ]
        assert all(a[1] == b[0] for a, b in itertools.pairwise(spans))
    assert crashed == whole.effects
    record_property(CRASH_POINTS, crashed)


def test_a_stopped_rollout_goes_on_where_it_was(tmp_path: Path) -> None:
    place, stop = cluster(), threading.Event()

    def stop_after_three(decision: Decision) -> None:
        if decision.state.looks == 3:
            stop.set()

    with FolderJournal(tmp_path) as journal:
        assert engine(place, journal).run(on_look=stop_after_three, stop=stop) == Phase.PROGRESSING
    with FolderJournal(tmp_path) as journal:
        again = engine(place, journal)
        assert again.state.looks == 3
        assert again.run() == Phase.PROMOTED
    assert place.asked == [0, 5, 50, 100]


def test_a_paused_rollout_holds_and_goes_on_when_it_is_no_longer_paused() -> None:
    place, journal = cluster(), MemoryJournal()
    engine(place, journal).look()
    place.clock.sleep(5)
    assert engine(place, journal, wanted=spec(paused=True)).look().reason == PAUSED
    place.clock.sleep(5)
    assert engine(place, journal).run() == Phase.PROMOTED
    assert [line.paused for line in journal.lines[:3]] == [False, True, False]
    assert replay(_read(journal)).difference is None


def test_only_the_interval_of_a_weight_change_is_not_compared() -> None:
    """The scrape before a look is older than the look; the interval after it counts all the same.

    Here the last scrape is half a second old at each look.
    """
    place, journal = cluster(), MemoryJournal()
    place.clock.sleep(0.5)
    wanted = spec(steps=[{"weight": 5, "minRequests": 100_000}])
    running = engine(place, journal, wanted=wanted)
    seen = []
    for _ in range(4):
        running.look()
        seen.append(running.state.step_requests)
        place.clock.sleep(5)
    # Advanced at the first look; 200 requests a second, 5 % of 5 seconds.
    assert seen == [0, 0, 50, 100]
    assert replay(_read(journal)).difference is None


def test_a_weight_that_was_lost_counts_from_when_it_is_found_again() -> None:
    place, journal = cluster(), MemoryJournal()
    wanted = spec(steps=[{"weight": 5, "minRequests": 100_000}])
    running = engine(place, journal, wanted=wanted)
    for weight in (None, None, None, 50, 5):
        place.weight = place.weight if weight is None else weight
        running.look()
        place.clock.sleep(5)
    assert running.state.honoured_since == place.clock.now() - timedelta(seconds=5)
    assert running.state.step_requests == 50  # of the look before it was lost


def test_an_ended_rollout_is_not_run_again(tmp_path: Path) -> None:
    place = cluster()
    with FolderJournal(tmp_path) as journal:
        engine(place, journal).run()
    with FolderJournal(tmp_path) as journal:
        before = len(place.asked)
        assert engine(place, journal).run() == Phase.PROMOTED
        assert len(place.asked) == before


@pytest.mark.parametrize(
    "wanted", [spec(steps=[{"weight": 10}]), spec(candidate={"version": "v3"})]
)
def test_evidence_is_not_carried_to_another_spec_or_candidate(wanted: RolloutSpec) -> None:
    place, journal = cluster(), MemoryJournal()
    engine(place, journal).look()
    with pytest.raises(ConflictError, match="another folder"):
        engine(place, journal, wanted=wanted)


def test_a_prometheus_that_does_not_answer_holds_and_says_so() -> None:
    place, journal = cluster(), MemoryJournal()
    running = engine(place, journal)
    running.look()
    place.silent = True
    place.clock.sleep(5)
    decision = running.look()
    assert (decision.action, decision.reason) == ("hold", METRICS_UNAVAILABLE)
    place.silent = False
    place.clock.sleep(5)
    # Nothing was lost: the next interval reaches back to the last one that was counted.
    running.look()
    assert journal.lines[-1].intervals.counts[0].canary.n == 10 * 10


class StubbornRouter(DryRunTraffic):
    """Takes weights and does not keep them."""

    def read_weight(self, arms: Arms) -> int | None:
        return 0


class AbsentRouter(DryRunTraffic):
    """Answers nothing."""

    def set_weight(self, arms: Arms, percent: int) -> None:
        raise UnavailableError("no answer", where="router")

    def read_weight(self, arms: Arms) -> int | None:
        raise UnavailableError("no answer", where="router")

    def not_ready(self, arms: Arms) -> tuple[str, ...]:
        raise UnavailableError("no answer", where="router")


def run_until_held(running: Engine) -> Phase:
    """Run until the deadline holds it; a rollout that is held is watched for ever."""
    stop = threading.Event()

    def look(decision: Decision) -> None:
        if decision.state.phase == Phase.INCONCLUSIVE:
            stop.set()

    return running.run(on_look=look, stop=stop)


def test_a_canary_that_is_held_past_the_deadline_is_watched_and_rolled_back_when_it_fails() -> None:
    place, journal = cluster(rate=2.0), MemoryJournal()
    phases: list[Phase] = []

    def turns_bad(decision: Decision) -> None:
        phases.append(decision.state.phase)
        if decision.state.phase == Phase.INCONCLUSIVE:
            place.rate, place.canary_errors = 200.0, 0.5

    steps = [{"weight": 5, "minRequests": 100_000}]
    wanted = spec(steps=steps)
    assert engine(place, journal, wanted=wanted).run(on_look=turns_bad) == Phase.ROLLED_BACK
    assert Phase.INCONCLUSIVE in phases
    assert place.weight == 0
    assert replay(_read(journal)).difference is None


def test_a_canary_that_is_held_for_long_is_looked_at_a_tenth_as_often() -> None:
    place, journal, stop = cluster(rate=2.0), MemoryJournal(), threading.Event()
    wanted = spec(
        steps=[{"weight": 5, "minRequests": 100_000}],
        analysis={"interval": "5s", "deadline": "1m", "vetoes": ["signature"]},
    )

    def after_twenty_minutes(decision: Decision) -> None:
        if place.clock.now() - START > timedelta(minutes=20):
            stop.set()

    running = engine(place, journal, wanted=wanted)
    assert running.run(on_look=after_twenty_minutes, stop=stop) == Phase.INCONCLUSIVE
    pauses = [(b.time - a.time).total_seconds() for a, b in itertools.pairwise(journal.lines)]
    assert set(pauses[:11]) == {5.0}
    assert pauses == sorted(pauses)
    assert set(pauses[-5:]) == {50.0}
    # Ten seconds of counts or fifty: evidence is added up all the same.
    assert {line.decision.reason for line in journal.lines[13:]} == {"DeadlineExceeded"}
    assert all(line.intervals.missing_reason is None for line in journal.lines)


def test_a_weight_that_is_not_honoured_never_goes_on() -> None:
    place, journal, router = cluster(), MemoryJournal(), StubbornRouter()
    assert run_until_held(engine(place, journal, traffic=router)) == Phase.INCONCLUSIVE
    assert {line.decision.reason for line in journal.lines[1:-1]} == {"WeightNotHonoured"}
    assert router.asked == [5]


def test_a_router_that_does_not_answer_never_starts() -> None:
    place, journal = cluster(), MemoryJournal()
    running = engine(place, journal, traffic=AbsentRouter())
    assert run_until_held(running) == Phase.INCONCLUSIVE
    assert {line.decision.reason for line in journal.lines[:-1]} == {"WeightUnknown"}


def test_what_the_rollout_says_of_itself() -> None:
    registry, place = CollectorRegistry(), cluster()
    running = engine(place, MemoryJournal(), registry=registry)
    running.run()

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, {"rollout": "next-basket", **labels})

    # What was promoted is no canary: an alert that leaves canaries out watches it again.
    assert value("davy_rollout_weight", version="v2", arm="canary") is None
    assert value("davy_rollout_weight", version="v1", arm="stable") is None
    assert value("davy_rollout_weight", version="v2", arm="stable") == 100
    assert value("davy_rollout_decisions_total", decision="promote") == 1
    assert value("davy_rollout_ratio_lower", indicator="errors") == 0
    assert value("davy_rollout_ratio_upper", indicator="errors") == float("inf")


def test_a_canary_that_was_rolled_back_is_shown_at_0() -> None:
    registry, place = CollectorRegistry(), cluster(canary_errors=0.2)
    engine(place, MemoryJournal(), registry=registry).run()
    labels = {"rollout": "next-basket", "version": "v2", "arm": "canary"}
    assert registry.get_sample_value("davy_rollout_weight", labels) == 0
