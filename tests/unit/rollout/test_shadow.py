"""The step before the first weight: no evidence, no weight; a bad canary never serves anybody."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from pydantic import ValidationError
from tests.fixtures.kill_sweeps import CRASH_POINTS
from tests.fixtures.rollout_cluster import CrashedHereError, StandInCluster

from davy.core.clock import ManualClock
from davy.core.errors import UnavailableError
from davy.packaging.contract import GateDefault
from davy.protocol.shadow import read_targets
from davy.rollout.adapters.folder_journal import FolderJournal
from davy.rollout.adapters.memory import MemoryJournal, StatedPackages
from davy.rollout.adapters.shadow_file import ShadowFile
from davy.rollout.counters import Cursor, Missing
from davy.rollout.decide import SHADOWING, STARTED, decide
from davy.rollout.engine import Engine
from davy.rollout.explain import explain
from davy.rollout.indicators import SHADOW_DIFFERENCES, SHADOW_ERRORS, SHADOW_SLOWNESS
from davy.rollout.picture import record_picture
from davy.rollout.ports import GateFacts
from davy.rollout.record import Header, LookLine, Record
from davy.rollout.record_file import read_record
from davy.rollout.replay import replay
from davy.rollout.sequential import RateEvidence
from davy.rollout.series import (
    REQUESTS,
    SHADOW_DIFFERENT,
    SHADOW_REQUESTS,
    SHADOW_SLOW,
    Arms,
    Sample,
    SeriesKey,
)
from davy.rollout.shadow import NAMES, of_tolerance
from davy.rollout.spec import RolloutSpec
from davy.rollout.standing import standing_of
from davy.rollout.state import Observation, Phase, State
from davy.rollout.verdict import Counts

START = datetime(2017, 1, 2, tzinfo=UTC)
FACTS = GateFacts(0.1, (GateDefault(name="errors", ratio=1.5, allowance=0.01),))
DETECTOR = "detector:8090"


def spec(shadow: dict[str, Any] | None, **changes: Any) -> RolloutSpec:
    analysis = {"interval": "5s", "deadline": "10m", "vetoes": [], **changes.pop("analysis", {})}
    document: dict[str, Any] = {
        "candidate": {"version": "v2"},
        "steps": [{"weight": 5}, {"weight": 50}],
        "analysis": analysis,
        **changes,
    }
    return RolloutSpec.model_validate(document if shadow is None else document | {"shadow": shadow})


SHADOW = {"requests": 800, "slow": 0.05}


@dataclass
class StandInShadow(StandInCluster):
    """The stand-in cluster with a detector that sends requests while it is told to.

    ``wrong``, ``failed`` and ``late`` are the shares of such requests. ``deaf`` says for how many
    times it cannot be told, ``gone`` that nobody counts. The canary's own counters rise with what
    is sent, as real ones do.
    """

    wrong: float = 0.0
    failed: float = 0.0
    late: float = 0.0
    sent: float = 50.0
    deaf: int = 0
    gone: bool = False
    mirrored: bool = False
    told: list[str] = field(default_factory=list)
    weights: list[tuple[int, bool]] = field(default_factory=list)

    def begin(self, arms: Arms) -> None:
        self._tell(True, arms)

    def end(self, arms: Arms) -> None:
        self._tell(False, arms)

    def _tell(self, mirrored: bool, arms: Arms) -> None:
        if self.deaf:
            self.deaf -= 1
            raise UnavailableError("the file cannot be written", where="shadow.json")
        self.serve(arms)
        self.effect()
        self.mirrored = mirrored
        self.told.append("begin" if mirrored else "end")
        self.effect()

    def set_weight(self, arms: Arms, percent: int) -> None:
        self.weights.append((percent, self.mirrored))
        super().set_weight(arms, percent)

    def serve(self, arms: Arms) -> None:
        began = self.until
        super().serve(arms)
        for second in range(1, 1 if self.gone else round(self.until - began) + 1):
            self._scrape(arms, began + second)

    def _scrape(self, arms: Arms, time: float) -> None:
        sent = round(self.sent) if self.mirrored else 0
        failed, wrong, late = (
            int(self.rng.binomial(sent, share)) for share in (self.failed, self.wrong, self.late)
        )
        answered = sent - failed
        rows = {
            SeriesKey(SHADOW_REQUESTS, arms.canary, DETECTOR, "answered"): answered,
            SeriesKey(SHADOW_REQUESTS, arms.canary, DETECTOR, "failed"): failed,
            SeriesKey(SHADOW_SLOW, arms.canary, DETECTOR): min(late, answered),
            SeriesKey(SHADOW_DIFFERENT, arms.canary, DETECTOR, "0.1"): min(wrong, answered),
            SeriesKey(SHADOW_DIFFERENT, arms.canary, DETECTOR, "0.0001"): answered,
            SeriesKey(REQUESTS, arms.canary, f"{arms.canary}:1", "ok"): answered,
            SeriesKey(REQUESTS, arms.canary, f"{arms.canary}:1", "server_error"): failed,
        }
        for key, count in rows.items():
            self.totals[key] = self.totals.get(key, 0) + count
            self.history.setdefault(key, []).append(Sample(time, self.totals[key]))


def place(**changes: Any) -> StandInShadow:
    made = StandInShadow(ManualClock(START), **changes)
    made.clock.sleep(5)
    made.serve(Arms("v1", "v2"))
    return made


def engine(cluster: StandInShadow, journal: Any, wanted: RolloutSpec, **changes: Any) -> Engine:
    return Engine(
        wanted,
        name="r",
        stable="v1",
        traffic=cluster,
        metrics=cluster,
        journal=journal,
        packages=StatedPackages(FACTS),
        clock=cluster.clock,
        shadow=cluster,
        **changes,
    )


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


# The sweep.


class JournalThatMayCrash(FolderJournal):
    """A real journal whose writes are side effects of the stand-in cluster."""

    def __init__(self, folder: Path, cluster: StandInShadow) -> None:
        super().__init__(folder)
        self.cluster = cluster

    def begin(self, header: Header) -> None:
        self.cluster.effect()
        super().begin(header)
        self.cluster.effect()

    def append(self, line: LookLine) -> None:
        self.cluster.effect()
        super().append(line)
        self.cluster.effect()


def crashing_run(folder: Path, crash_at: int, **cluster: Any) -> tuple[StandInShadow, int]:
    where = place(crash_at=crash_at, rate=2000.0, sent=200.0, **cluster)
    for process in range(1, 4):
        with JournalThatMayCrash(folder, where) as journal:
            try:
                engine(where, journal, spec(SHADOW)).run()
            except CrashedHereError:
                continue
            return where, process
    raise AssertionError("did not end")


@pytest.mark.parametrize("wrong", [0.0, 0.2])
def test_a_crash_between_any_two_side_effects_changes_nothing(
    tmp_path: Path, wrong: float, record_property: Any
) -> None:
    whole, processes = crashing_run(tmp_path / "whole", -1, wrong=wrong)
    assert processes == 1
    ends = read_record(tmp_path / "whole" / "record.jsonl").looks[-1].decision.phase
    crashed = 0
    for point in range(1, whole.effects + 1):
        folder = tmp_path / str(point)
        where, processes = crashing_run(folder, point, wrong=wrong)
        crashed += processes - 1
        record = read_record(folder / "record.jsonl")
        assert replay(record).difference is None
        assert record.looks[-1].decision.phase == ends
        assert not where.mirrored, "requests go on to a canary that has ended or serves"
        assert all(not mirrored for percent, mirrored in where.weights if percent)
        distinct = [w for w, _ in itertools.groupby(where.asked)]
        assert distinct == [w for w, _ in itertools.groupby(whole.asked)]
        if wrong:
            assert set(where.asked) == {0}
    assert crashed == whole.effects
    record_property(CRASH_POINTS, crashed)


# Whatever is answered.

NUMBERS = st.integers(0, 400)


@st.composite
def looks(draw: st.DrawFn) -> Observation:
    """Return any counts of the step, of indicators that have no business there, or none."""
    counts: dict[str, Counts] = {}
    for name in draw(st.sets(st.sampled_from([*sorted(NAMES), "errors", "contract"]))):
        n = draw(NUMBERS)
        counts[name] = Counts(0, 0, n, draw(st.integers(0, min(n, 3)) | st.integers(0, n)))
    absent = draw(st.sets(st.sampled_from(sorted(NAMES)), max_size=1))
    missing = draw(st.sampled_from([None, None, None, Missing("NoMetrics", "nothing")]))
    return Observation(
        weight=draw(st.sampled_from([0, 0, 0, 0, 5, None])),
        counts={} if missing else counts,
        missing=missing,
        start=0.0,
        end=5.0,
        absent=dict.fromkeys(absent, "no series"),
        not_ready=draw(st.sampled_from([(), (), (), ("v2",)])),
        paused=draw(st.sampled_from([False, False, False, True])),
        cursor=Cursor(),
    )


def step_by_step(wanted: RolloutSpec, drawn: list[Observation]) -> tuple[State, list[Observation]]:
    """Decide on each observation, up to the first weight; also return what was seen by then."""
    state, now, seen = State(), START, list[Observation]()
    for observation in drawn:
        seen.append(observation)
        state = decide(wanted, state, observation, now).state
        if state.step >= 0:
            break
        now += timedelta(seconds=5)
    return state, seen


@settings(deadline=None, max_examples=200)
@given(st.lists(looks(), min_size=1, max_size=12))
def test_no_answers_whatsoever_lead_to_the_first_weight_without_the_evidence(
    drawn: list[Observation],
) -> None:
    wanted = spec({"requests": 300, "slow": 0.05, "errors": 0.02, "differences": 0.02},
                  analysis={"indicators": [{"name": "errors", "allowance": 0.01}]})  # fmt: skip
    state, seen = step_by_step(wanted, drawn)
    if state.step < 0:
        return
    assert seen[-1].weight == 0
    assert seen[-1].missing is None
    assert not seen[-1].absent
    # Counted here anew, and bounded by the same sequence but no other code of the step.
    for name, allowed in wanted.shadow.allowed().items() if wanted.shadow else ():
        n, k = (
            sum(getattr(o.counts[name], field) for o in seen if name in o.counts)
            for field in ("n_canary", "k_canary")
        )
        bounds = RateEvidence(n, k).bounds(alpha_lower=0.01, alpha_upper=0.05)
        assert bounds.upper <= allowed * 1.0001, (name, n, k)
        if name == SHADOW_DIFFERENCES:
            assert n >= 300


def test_the_same_looks_with_the_evidence_do_lead_there() -> None:
    wanted = spec({"requests": 300}, analysis={"indicators": [{"name": "errors"}]})
    good = {name: Counts(0, 0, 600, 0) for name in (SHADOW_ERRORS, SHADOW_DIFFERENCES)}
    state, seen = step_by_step(wanted, [Observation(weight=0, counts=good)] * 3)
    assert (state.step, state.weight, len(seen)) == (0, 5, 1)


@pytest.mark.parametrize("lost", [SHADOW_ERRORS, SHADOW_DIFFERENCES])
def test_one_rate_without_counts_holds_for_ever(lost: str) -> None:
    wanted = spec({"requests": 1}, analysis={"indicators": [{"name": "errors"}]})
    good = {name: Counts(0, 0, 10_000, 0) for name in (SHADOW_ERRORS, SHADOW_DIFFERENCES)}
    del good[lost]
    state, _ = step_by_step(wanted, [Observation(weight=0, counts=good)] * 20)
    assert state.step < 0


def test_false_rollbacks_and_false_starts_are_as_rare_as_promised() -> None:
    # At the limit itself both are at their likeliest.
    rng = np.random.default_rng(3)
    wanted = spec({"requests": 1, "errors": 0.05, "differences": 0.05},
                  analysis={"indicators": [{"name": "errors"}]})  # fmt: skip
    ended = {"rolled back": 0, "started": 0}
    for _ in range(200):
        drawn = []
        for _ in range(20):
            k = int(rng.binomial(100, 0.05))
            counts = {SHADOW_ERRORS: Counts(0, 0, 100, 0), SHADOW_DIFFERENCES: Counts(0, 0, 100, k)}
            drawn.append(Observation(weight=0, counts=counts))
        state, _ = step_by_step(wanted, drawn)
        ended["started"] += state.step >= 0
        ended["rolled back"] += state.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK)
    # 0.05 and 0.0125 are promised; 200 streams exceed 0.1 and 0.05 with chances below 0.002.
    assert ended["started"] <= 20
    assert ended["rolled back"] <= 10


# The file.


def test_the_file_names_the_canary_and_forgets_it(tmp_path: Path) -> None:
    path = tmp_path / "shadow.json"
    mine = ShadowFile(path, {"v2": ["http://127.0.0.1:3001"]})
    other = ShadowFile(path, {"w2": ["http://127.0.0.1:3002"]})
    mine.begin(Arms("v1", "v2"))
    other.begin(Arms("w1", "w2"))
    mine.begin(Arms("v1", "v2"))
    assert {(t.stable, t.candidate, t.url) for t in read_targets(path).targets} == {
        ("w1", "w2", "http://127.0.0.1:3002"),
        ("v1", "v2", "http://127.0.0.1:3001"),
    }
    assert len(read_targets(path).targets) == 2
    mine.end(Arms("v1", "v2"))
    assert [target.candidate for target in read_targets(path).targets] == ["w2"]


def test_a_folder_that_cannot_be_written_is_said_again(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("a file, where a folder should be")
    with pytest.raises(UnavailableError, match="cannot be"):
        ShadowFile(tmp_path / "there" / "x.json", {"v2": ["http://a"]}).begin(Arms("v1", "v2"))


def test_a_rollout_shows_its_numbers() -> None:
    registry = CollectorRegistry()
    where = place()
    one = engine(where, MemoryJournal(), spec(SHADOW), registry=registry)
    one.look()
    labels = {"rollout": "r", "decision": "hold"}
    assert registry.get_sample_value("davy_rollout_decisions_total", labels) == 1
