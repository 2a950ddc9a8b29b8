"""A second pod of the canary: where the stable arm can spare one, and never at its cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.cluster.bed.kserve_standin import SERVICES
from tests.fixtures.kill_sweeps import CRASH_POINTS
from tests.fixtures.kserve_bed import ARMS, THREE, V1, V2, Rollout, bed, router
from tests.fixtures.memory_objects import CrashError, CrashingObjects, MemoryObjects

from davy.rollout.kserve.entries import second_pod_is_spare
from davy.rollout.kserve.mark import Mark, Stage
from davy.rollout.series import Arms


def pods(objects: MemoryObjects) -> list[int]:
    found = objects.get(SERVICES, "models", "demo")
    assert found is not None
    return [item["predictor"]["minReplicas"] for item in found["spec"].get("canary") or ()]


@pytest.mark.parametrize(
    ("least", "alone", "beside_a_baseline"),
    [(1, False, False), (2, True, True), (3, False, True), (4, False, False), (10, False, False),
     (11, True, False), (22, True, True)],
)  # fmt: skip
def test_the_stable_arm_loses_a_tenth_of_its_pods_at_most(
    least: int, alone: bool, beside_a_baseline: bool
) -> None:
    def spare(baseline: str) -> bool:
        stable = {"minReplicas": least}
        mark = Mark("r", "u", "v2", 1, Stage.RUNNING, 5, stable, name="v2", baseline=baseline)
        return second_pod_is_spare(mark)

    assert (spare(""), spare("v1-baseline")) == (alone, beside_a_baseline)


@pytest.mark.parametrize("arms", [ARMS, THREE])
def test_it_stays_through_the_weights_and_goes_with_the_canary(arms: Arms) -> None:
    objects, observed, clock = bed("Standard", 2)
    traffic = router("Standard", objects, clock)
    Rollout((0, 10), promoted=True, arms=arms).drive_weights(traffic, clock)
    assert set(pods(objects)) == {1}
    assert traffic.second_pod(arms)
    assert set(pods(objects)) == {2}
    process = CrashingObjects(objects)
    again = router("Standard", process, clock)
    assert again.second_pod(arms)
    assert process.writes == 0
    Rollout((10, 40), promoted=True, arms=arms).drive_weights(again, clock)
    assert set(pods(objects)) == {2}
    Rollout((100,), promoted=True, arms=arms).drive(again, clock)
    found = objects.get(SERVICES, "models", "demo")
    assert found is not None
    assert found["spec"]["predictor"]["minReplicas"] == 2
    assert pods(objects) == []
    assert (observed.losses, observed.restarts) == ([], [])


@pytest.mark.parametrize(
    ("mode", "replicas"), [("Standard", None), ("Standard", 4), ("Knative", 2)]
)
def test_where_it_cannot_be_had_nothing_is_written(mode: str, replicas: int | None) -> None:
    objects, _, clock = bed(mode, replicas)
    assert not router(mode, objects, clock).second_pod(ARMS), "there is no canary"
    Rollout((0, 10), promoted=True).drive_weights(router(mode, objects, clock), clock)
    process = CrashingObjects(objects)
    assert not router(mode, process, clock).second_pod(ARMS)
    assert process.writes == 0


def test_an_edited_service_gets_none() -> None:
    objects, _, clock = bed("Standard", 2)
    traffic = router("Standard", objects, clock)
    Rollout((0, 10), promoted=True).drive_weights(traffic, clock)
    objects.merge_patch(SERVICES, "models", "demo", {"spec": {"predictor": {"timeout": 5}}})
    assert not traffic.second_pod(ARMS)
    assert pods(objects) == [1]


def test_an_edit_in_between_is_not_written_over() -> None:
    objects, _, clock = bed("Standard", 2)
    Rollout((0, 10), promoted=True).drive_weights(router("Standard", objects, clock), clock)

    def edit() -> None:
        objects.merge_patch(SERVICES, "models", "demo", {"spec": {"predictor": {"timeout": 5}}})

    process = CrashingObjects(objects, 1, interfere=edit)
    assert not router("Standard", process, clock).second_pod(ARMS)
    assert pods(objects) == [1]


@pytest.mark.parametrize("promoted", [True, False])
def test_a_crash_at_any_write_changes_nothing(
    promoted: bool, record_property: Callable[[str, object], None]
) -> None:
    def run(crash: tuple[int, bool] | None) -> tuple[int, dict[str, Any], list[dict[str, int]]]:
        objects, observed, clock = bed("Standard", 2)
        Rollout((0, 10), promoted).drive_weights(router("Standard", objects, clock), clock)
        rollout = Rollout((40, 100) if promoted else (0,), promoted)
        if crash is not None:
            process = CrashingObjects(objects, crash[0], after=crash[1])
            with pytest.raises(CrashError):
                traffic = router("Standard", process, clock)
                traffic.second_pod(ARMS)
                rollout.drive(traffic, clock)
            clock.sleep(1.0)
        process = CrashingObjects(objects)
        traffic = router("Standard", process, clock)
        if rollout.at == 0:
            # As the operator does: what the record says was asked for is asked for again.
            traffic.second_pod(ARMS)
        rollout.drive(traffic, clock)
        clock.sleep(2.0)
        assert (observed.losses, observed.restarts) == ([], [])
        found = objects.get(SERVICES, "models", "demo")
        assert found is not None
        return process.writes, found["spec"], observed.shares_in("models")

    writes, spec, shares = run(None)
    assert spec["predictor"]["model"]["storageUri"] == (V2 if promoted else V1)
    for crash_at in range(writes):
        for after in (False, True):
            assert run((crash_at, after))[1:] == (spec, shares), f"write {crash_at}, made: {after}"
    record_property(CRASH_POINTS, 2 * writes)
