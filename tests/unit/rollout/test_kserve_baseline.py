"""Three arms in Standard mode: the baseline comes and goes with the canary."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.cluster.bed.kserve_standard_standin import ROUTES
from tests.cluster.bed.kserve_standin import SERVICES
from tests.fixtures.kill_sweeps import CRASH_POINTS
from tests.fixtures.kserve_bed import ARMS, THREE, V1, V2, Rollout, bed, router
from tests.fixtures.kserve_objects import CANDIDATE, service
from tests.fixtures.memory_objects import CrashError, CrashingObjects, MemoryObjects

from davy.predictor.settings import PredictorSettings
from davy.protocol.names import ARM_VARIABLE, BASELINE
from davy.rollout.kserve import service as isvc
from davy.rollout.kserve import standard
from davy.rollout.kserve.entries import baseline_replicas, canary_replicas
from davy.rollout.kserve.mark import Mark, Stage
from davy.rollout.kserve.moves import (
    SERVICE_EDITED,
    UNSUPPORTED,
    Patch,
    Refuse,
    RefusedError,
    Split,
    Wait,
)
from davy.rollout.kserve.pods import pod_patterns
from davy.rollout.kserve.standard import Seen
from davy.rollout.spec import Candidate

STABLE, CANARY, COPY = "demo-predictor", "demo-v2-predictor", "demo-v1-baseline-predictor"


def weights(objects: MemoryObjects) -> dict[str, int]:
    route = objects.get(ROUTES, "models", "demo")
    assert route is not None
    (rule,) = route["spec"]["rules"]
    return {item["name"]: item["weight"] for item in rule["backendRefs"]}


def entries(objects: MemoryObjects) -> dict[str, dict[str, Any]]:
    found = objects.get(SERVICES, "models", "demo")
    assert found is not None
    return {item["predictor"]["name"]: item for item in found["spec"].get("canary") or ()}


def test_each_arm_has_its_share_and_the_baseline_goes_with_the_end() -> None:
    objects, observed, clock = bed("Standard", 4)
    traffic = router("Standard", objects, clock)
    seen = {}
    for percent in (0, 10, 40):
        Rollout((percent,), promoted=True, arms=THREE, at=0).drive_weights(traffic, clock)
        seen[percent] = weights(objects)
        assert traffic.read_weight(THREE) == percent
    assert seen == {
        0: {STABLE: 100},
        10: {STABLE: 80, CANARY: 10, COPY: 10},
        40: {STABLE: 20, CANARY: 40, COPY: 40},
    }
    pods = {name: item["predictor"]["minReplicas"] for name, item in entries(objects).items()}
    assert pods == {"v2": 2, "v1-baseline": 2}
    Rollout((100,), promoted=True, arms=THREE).drive(traffic, clock)
    clock.sleep(2)
    found = objects.get(SERVICES, "models", "demo")
    assert found is not None
    assert found["spec"]["predictor"]["model"]["storageUri"] == V2
    assert "env" not in found["spec"]["predictor"]["model"], "what took over is no baseline"
    assert found["spec"]["predictor"]["minReplicas"] == 4
    assert not entries(objects)
    assert weights(objects) == {CANARY: 100}
    assert observed.losses == []


def test_the_copy_differs_from_the_stable_arm_in_what_its_counters_say() -> None:
    objects, _, clock = bed("Standard", None)
    router("Standard", objects, clock).set_weight(THREE, 0)
    found = objects.get(SERVICES, "models", "demo")
    assert found is not None
    stable, copy = found["spec"]["predictor"], entries(objects)["v1-baseline"]["predictor"]
    variable = {"name": ARM_VARIABLE, "value": BASELINE}
    assert copy == {
        **stable,
        "name": "v1-baseline",
        "annotations": {isvc.VERSION_ANNOTATION: "v1+baseline"},
        "model": {**stable["model"], "env": [variable]},
        "minReplicas": 1,
    }
    assert "env" not in entries(objects)["v2"]["predictor"]["model"]


def test_the_setting_is_the_predictors_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ARM_VARIABLE, BASELINE)
    assert PredictorSettings().arm == BASELINE


def test_a_container_of_its_own_is_told_by_its_environment() -> None:
    container = {"name": "kserve-container", "env": [{"name": ARM_VARIABLE, "valueFrom": {}}]}
    made = isvc.baseline_predictor({"containers": [container]}, "v1+baseline")
    assert isinstance(made, dict)
    assert made["containers"][0]["env"] == [{"name": ARM_VARIABLE, "value": BASELINE}]
    assert isinstance(isvc.baseline_predictor({"sklearn": {}}, "v1+baseline"), Refuse)


SCENARIOS = [
    pytest.param((0, 10, 40, 100), True, id="promoted"),
    pytest.param((0, 10, 40, 0), False, id="rolled back"),
    pytest.param((0, 40), False, id="given up at 40"),
    pytest.param((0,), False, id="given up before it began"),
]


def run(
    steps: tuple[int, ...], replicas: int | None, promoted: bool, crash: tuple[int, bool] | None
) -> tuple[int, dict[str, Any], list[dict[str, int]]]:
    """Return the writes of the last process, the spec at the end, and the splits in order."""
    objects, observed, clock = bed("Standard", replicas)
    rollout = Rollout(steps, promoted, arms=THREE)
    if crash is not None:
        process = CrashingObjects(objects, crash[0], after=crash[1])
        with pytest.raises(CrashError):
            rollout.drive(router("Standard", process, clock), clock)
        clock.sleep(1.0)
    process = CrashingObjects(objects)
    rollout.drive(router("Standard", process, clock), clock)
    clock.sleep(2.0)
    assert observed.losses == []
    assert observed.restarts == []
    assert not entries(objects)
    found = objects.get(SERVICES, "models", "demo")
    assert found is not None
    return process.writes, found["spec"], observed.shares_in("models")


@pytest.mark.parametrize("replicas", [None, 4])
@pytest.mark.parametrize(("steps", "promoted"), SCENARIOS)
def test_a_crash_at_any_write_changes_nothing(
    steps: tuple[int, ...],
    promoted: bool,
    replicas: int | None,
    record_property: Callable[[str, object], None],
) -> None:
    writes, spec, shares = run(steps, replicas, promoted, None)
    assert spec["predictor"]["model"]["storageUri"] == (V2 if promoted else V1)
    for crash_at in range(writes):
        for after in (False, True):
            again = run(steps, replicas, promoted, (crash_at, after))
            assert again[1:] == (spec, shares), f"write {crash_at}, made: {after}"
    record_property(CRASH_POINTS, 2 * writes)


def test_the_next_process_need_not_be_told_of_the_baseline_to_take_it_away() -> None:
    """Of a rollout whose record is lost the note alone is known."""
    objects, observed, clock = bed("Standard", None)
    Rollout((0, 40), promoted=True, arms=THREE).drive_weights(
        router("Standard", objects, clock), clock
    )
    Rollout((), promoted=False, arms=ARMS).drive(router("Standard", objects, clock), clock)
    clock.sleep(2)
    assert not entries(objects)
    assert weights(objects) == {STABLE: 100}
    assert observed.losses == []


@pytest.mark.parametrize("gone", ["v2", "v1-baseline"])
def test_an_arm_that_somebody_took_away_is_not_made_again(gone: str) -> None:
    objects, _, clock = bed("Standard", None)
    traffic = router("Standard", objects, clock)
    Rollout((0, 40), promoted=True, arms=THREE).drive_weights(traffic, clock)
    left = [item for name, item in entries(objects).items() if name != gone]
    objects.merge_patch(SERVICES, "models", "demo", {"spec": {"canary": left}})
    with pytest.raises(RefusedError) as caught:
        traffic.set_weight(THREE, 40)
    assert caught.value.reason == SERVICE_EDITED
    assert list(entries(objects).values()) == left
    Rollout((), promoted=False, arms=THREE).drive(traffic, clock)
    clock.sleep(2)
    assert not entries(objects), "the other one goes, without weight"
    assert weights(objects) == {STABLE: 100}


def test_a_baseline_with_another_share_is_an_edit_and_no_weight_of_ours() -> None:
    objects, _, clock = bed("Standard", None)
    traffic = router("Standard", objects, clock)
    Rollout((0, 40), promoted=True, arms=THREE).drive_weights(traffic, clock)
    other = [
        {**item, "trafficPercent": 20 if name == "v1-baseline" else 40}
        for name, item in entries(objects).items()
    ]
    objects.merge_patch(SERVICES, "models", "demo", {"spec": {"canary": other}})
    clock.sleep(2)
    assert traffic.read_weight(THREE) is None
    with pytest.raises(RefusedError, match="was changed by"):
        traffic.set_weight(THREE, 40)


def test_no_weight_before_the_baseline_serves() -> None:
    found = service()
    first = standard.next_step(Seen("r1", CANDIDATE, found, baseline="v1+baseline"), Split(0))
    assert isinstance(first, Patch)
    found["spec"] |= first.body["spec"]
    found["metadata"]["generation"] = first.mark.generation
    copy = f"demo-{first.mark.baseline}-predictor"
    pods = {STABLE: 1, CANARY: 1, copy: 0}
    seen = Seen("r1", CANDIDATE, found, first.mark, 99.0, "v1+baseline", {STABLE: 1}, True, True)
    seen = replace(seen, available=pods)
    assert standard.not_ready(seen) == (False, False, True)
    assert standard.next_step(seen, Split(10)) == Wait("0 of 1 pods of the baseline serve")
    # A person's word is no comparison, and waits for no baseline.
    promoted = standard.next_step(seen, Split(100))
    assert isinstance(promoted, Patch)
    assert (promoted.mark.shares.canary, promoted.mark.shares.baseline) == (100, 0)


def test_a_baseline_that_ends_is_no_gateway_that_does_not_follow() -> None:
    """KServe gives an arm without a ready pod no weight, and the others as much more."""
    found = service()
    first = standard.next_step(Seen("r1", CANDIDATE, found, baseline="v1+baseline"), Split(0))
    assert isinstance(first, Patch)
    mark = replace(first.mark, percent=10)
    for item in first.body["spec"]["canary"]:
        item["trafficPercent"] = 10
    found["spec"] |= first.body["spec"]
    found["metadata"]["generation"] = mark.generation
    copy, split = f"demo-{mark.baseline}-predictor", {STABLE: 90, CANARY: 10}
    seen = Seen("r1", CANDIDATE, found, mark, 99.0, "v1+baseline", split, True, True)
    alone = replace(seen, available={STABLE: 1, CANARY: 1, copy: 0})
    assert isinstance(standard.next_step(alone, Split(10)), Wait)
    assert standard.read_weight(alone) is None
    served = replace(seen, available={STABLE: 1, CANARY: 1, copy: 1})
    assert isinstance(standard.next_step(served, Split(10)), Refuse)


def test_knative_refuses_it_before_the_first_write() -> None:
    objects, _, clock = bed("Knative", None)
    process = CrashingObjects(objects)
    with pytest.raises(RefusedError, match="no place for a third") as caught:
        router("Knative", process, clock).set_weight(THREE, 0)
    assert (caught.value.reason, process.writes) == (UNSUPPORTED, 0)
    assert router("Knative", process, clock).settle(THREE, promoted=False), "nothing to take away"


@pytest.mark.parametrize(("least", "percent", "canary", "copy"), [
    (1, 40, 1, 1), (4, 10, 1, 1), (4, 40, 2, 2), (10, 49, 5, 5), (10, 100, 10, 5),
])  # fmt: skip
def test_both_have_as_many_pods_while_they_are_compared(
    least: int, percent: int, canary: int, copy: int
) -> None:
    stable = {"minReplicas": least}
    replicas = canary_replicas(stable, percent)
    mark = Mark("r", "u", "v2", 1, Stage.RUNNING, percent, stable, replicas=replicas)
    assert (replicas, baseline_replicas(mark)) == (canary, copy)


def test_its_pods_belong_to_the_service_before_and_after_it_was_made() -> None:
    found = service(annotations={isvc.VERSION_ANNOTATION: "v1"})
    pod = "demo-v1-baseline-predictor-6c9f8d7b54-x2k9q"
    candidate = Candidate(version="v2", packageURI=V2)
    assert any(re.fullmatch(one, pod) for one in pod_patterns(found, None, candidate))
    bare = service()
    mark = Mark("r", "u1", "v2", 1, Stage.RUNNING, 0, {}, name="v2", baseline="v1-baseline")
    assert any(re.fullmatch(one, pod) for one in pod_patterns(bare, mark, candidate))
    assert not any(re.fullmatch(one, pod) for one in pod_patterns(bare, None, candidate))


def test_a_candidate_that_is_called_like_a_baseline_has_another_name() -> None:
    canary = isvc.canary_name("demo", "v1-baseline", None)
    copy = isvc.canary_name("demo", "v1+baseline", None, canary)
    assert canary == "v1-baseline"
    assert copy != canary


def test_a_note_from_before_there_were_baselines_is_read() -> None:
    mark = Mark("r", "u", "v2", 1, Stage.RUNNING, 10, {}, name="v2")
    old = mark.to_text().replace('"baseline": "", ', "")
    assert "baseline" not in old
    assert Mark.from_text(old) == mark
