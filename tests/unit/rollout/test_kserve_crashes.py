"""A crash at any write, or somebody else in between: the same end, and no request lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.cluster.bed.kserve_standin import SERVICES
from tests.fixtures.kill_sweeps import CRASH_POINTS
from tests.fixtures.kserve_bed import ARMS, V1, V2, Rollout, bed, router
from tests.fixtures.memory_objects import CrashError, CrashingObjects, MemoryObjects

from davy.rollout.kserve.moves import RefusedError


def run(
    mode: str,
    weights: tuple[int, ...],
    *,
    promoted: bool,
    replicas: int | None = None,
    crashes: tuple[tuple[int, bool], ...] = (),
) -> tuple[int, dict[str, Any], list[dict[str, int]]]:
    """Return the writes of the last process, the spec at the end, and the splits in order."""
    objects, observed, clock = bed(mode, replicas)
    rollout = Rollout(weights, promoted)
    for crash_at, after in crashes:
        process = CrashingObjects(objects, crash_at, after=after)
        with pytest.raises(CrashError):
            rollout.drive(router(mode, process, clock), clock)
        clock.sleep(1.0)
    process = CrashingObjects(objects)
    rollout.drive(router(mode, process, clock), clock)
    clock.sleep(2.0)
    assert observed.losses == []
    assert observed.restarts == []
    service = objects.get(SERVICES, "models", "demo")
    assert service is not None
    return process.writes, service["spec"], observed.shares_in("models")


ONE, TWO = {V1: 100}, {V2: 100}
TENTH, HALF = {V1: 90, V2: 10}, {V1: 50, V2: 50}
SCENARIOS = [
    pytest.param((0, 10, 50, 100), True, [ONE, TENTH, HALF, TWO], id="promoted"),
    pytest.param((0, 10, 50, 0), False, [ONE, TENTH, HALF, ONE], id="rolled back from 50"),
    pytest.param((0, 100, 0), False, [ONE, TWO, ONE], id="rolled back from 100"),
    pytest.param((0, 50), False, [ONE, HALF, ONE], id="given up at 50"),
    pytest.param((0,), False, [ONE], id="given up before it began"),
]


@pytest.mark.parametrize("replicas", [None, 4])
@pytest.mark.parametrize("mode", ["Standard", "Knative"])
@pytest.mark.parametrize(("weights", "promoted", "splits"), SCENARIOS)
def test_a_crash_at_any_write_changes_nothing(
    mode: str,
    replicas: int | None,
    weights: tuple[int, ...],
    promoted: bool,
    splits: list[dict[str, int]],
    record_property: Callable[[str, object], None],
) -> None:
    writes, spec, shares = run(mode, weights, promoted=promoted, replicas=replicas)
    assert spec["predictor"]["model"]["storageUri"] == (V2 if promoted else V1)
    assert shares == splits
    assert spec["predictor"].get("minReplicas") == replicas
    for crash_at in range(writes):
        for after in (False, True):
            again = run(
                mode, weights, promoted=promoted, replicas=replicas, crashes=((crash_at, after),)
            )
            assert again[1:] == (spec, shares), f"write {crash_at}, made: {after}"
    record_property(CRASH_POINTS, 2 * writes)


@pytest.mark.parametrize("mode", ["Standard", "Knative"])
def test_two_crashes_change_nothing_either(
    mode: str, record_property: Callable[[str, object], None]
) -> None:
    weights = (0, 50, 100)
    writes, spec, shares = run(mode, weights, promoted=True)
    pairs = [(a, b) for a in range(writes) for b in range(min(3, writes - a))]
    for first, second in pairs:
        crashes = ((first, False), (second, True))
        assert run(mode, weights, promoted=True, crashes=crashes)[1:] == (spec, shares)
    record_property(CRASH_POINTS, len(pairs))


@pytest.mark.parametrize("mode", ["Standard", "Knative"])
def test_an_edit_just_before_any_write_is_never_written_over(mode: str) -> None:
    weights = (0, 50, 100)
    writes, *_ = run(mode, weights, promoted=True)
    for number in range(writes):
        objects, observed, clock = bed(mode, None)
        edited: list[dict[str, Any] | None] = []

        def edit(
            objects: MemoryObjects = objects, edited: list[dict[str, Any] | None] = edited
        ) -> None:
            objects.merge_patch(SERVICES, "models", "demo", {"spec": {"predictor": {"timeout": 5}}})
            edited.append(objects.get(SERVICES, "models", "demo"))

        process = CrashingObjects(objects, number, interfere=edit)
        traffic = router(mode, process, clock)
        rollout = Rollout(weights, promoted=True)
        with pytest.raises(RefusedError, match="was changed by"):
            rollout.drive(traffic, clock)
        service = objects.get(SERVICES, "models", "demo")
        assert service is not None
        assert edited[0] is not None
        assert service["spec"] == edited[0]["spec"]
        assert observed.losses == []


@pytest.mark.parametrize("wait", [0.0, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("mode", ["Standard", "Knative"])
def test_a_rollout_given_up_at_once_gives_the_candidate_no_request(mode: str, wait: float) -> None:
    """The status says nothing of the candidate yet, or says that it is not ready."""
    objects, observed, clock = bed(mode, None)
    router(mode, CrashingObjects(objects), clock).set_weight(ARMS, 0)
    begun = objects.get(SERVICES, "models", "demo")
    assert begun is not None
    assert V2 in str(begun["spec"])
    clock.sleep(wait)
    again = router(mode, CrashingObjects(objects), clock)
    Rollout((), promoted=False).drive(again, clock)
    clock.sleep(3)
    service = objects.get(SERVICES, "models", "demo")
    assert service is not None
    assert service["spec"]["predictor"]["model"]["storageUri"] == V1
    assert observed.shares_in("models") == [ONE]
    assert observed.losses == []


@pytest.mark.parametrize("mode", ["Standard", "Knative"])
def test_whoever_mends_an_edited_service_may_begin_again(mode: str) -> None:
    objects, observed, clock = bed(mode, None)
    process = CrashingObjects(objects)
    traffic = router(mode, process, clock)
    Rollout((0, 50), promoted=True).drive_weights(traffic, clock)
    mended = {"model": {"storageUri": V1}, "canaryTrafficPercent": None, "timeout": 5}
    objects.merge_patch(SERVICES, "models", "demo", {"spec": {"predictor": mended}})
    if mode == "Standard":
        Rollout((), promoted=False).drive(traffic, clock)
    else:
        with pytest.raises(RefusedError):
            traffic.settle(ARMS, promoted=False)
    clock.sleep(3)
    again = router(mode, process, clock, rollout="r2")
    Rollout((0, 50, 100), promoted=True).drive(again, clock)
    assert observed.losses == []
