"""What a rollout that is given up takes back of a Knative service that somebody has edited."""

from __future__ import annotations

from typing import Any

import pytest
from tests.cluster.bed.kserve_standin import SERVICES, Observed
from tests.fixtures.kserve_bed import ARMS, V1, Rollout, TickingClock, bed, router
from tests.fixtures.memory_objects import CrashError, CrashingObjects, MemoryObjects

from davy.rollout.kserve.moves import SERVICE_EDITED, RefusedError


def knative_at(percent: int) -> tuple[MemoryObjects, Observed, TickingClock]:
    objects, observed, clock = bed("Knative", None)
    Rollout((0, percent), promoted=True).drive_weights(router("Knative", objects, clock), clock)
    return objects, observed, clock


def predictor(objects: MemoryObjects) -> dict[str, Any]:
    found = objects.get(SERVICES, "models", "demo")
    assert found is not None
    return dict(found["spec"]["predictor"])


def give_up(objects: MemoryObjects | CrashingObjects, clock: TickingClock) -> None:
    """What the operator does when a rollout failed or is deleted."""
    with pytest.raises(RefusedError) as caught:
        router("Knative", objects, clock).settle(ARMS, promoted=False)
    assert caught.value.reason == SERVICE_EDITED


@pytest.mark.parametrize("percent", [10, 50, 99])
def test_an_edited_knative_service_gets_its_traffic_back_and_keeps_the_edit(percent: int) -> None:
    objects, observed, clock = knative_at(percent)
    objects.merge_patch(SERVICES, "models", "demo", {"spec": {"predictor": {"timeout": 5}}})
    edited = predictor(objects)
    clock.sleep(2)
    give_up(objects, clock)
    assert predictor(objects) == {**edited, "canaryTrafficPercent": 0}
    clock.sleep(3)
    assert observed.shares_in("models")[-1] == {V1: 100}
    assert observed.losses == []
    given_back = objects.get(SERVICES, "models", "demo")
    give_up(objects, clock)
    assert objects.get(SERVICES, "models", "demo") == given_back, "written once, not for ever"


@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize("crash_at", [0, 1])
def test_a_crash_while_the_traffic_is_given_back_changes_nothing(
    crash_at: int, after: bool
) -> None:
    objects, observed, clock = knative_at(50)
    objects.merge_patch(SERVICES, "models", "demo", {"spec": {"predictor": {"timeout": 5}}})
    edited = predictor(objects)
    process = CrashingObjects(objects, crash_at, after=after)
    with pytest.raises(CrashError):
        router("Knative", process, clock).settle(ARMS, promoted=False)
    give_up(objects, clock)
    assert predictor(objects) == {**edited, "canaryTrafficPercent": 0}
    clock.sleep(3)
    assert observed.shares_in("models")[-1] == {V1: 100}


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param({"canaryTrafficPercent": 70}, id="a split of their own"),
        pytest.param({"canaryTrafficPercent": None}, id="promoted by hand"),
        pytest.param({"model": {"storageUri": "pvc://models/somebodys"}}, id="another model"),
        pytest.param({"model": {"storageUri": V1}}, id="the stable model by hand"),
    ],
)
def test_what_somebody_else_has_decided_about_the_traffic_stays(edit: dict[str, Any]) -> None:
    objects, _, clock = knative_at(50)
    objects.merge_patch(SERVICES, "models", "demo", {"spec": {"predictor": edit}})
    edited = predictor(objects)
    give_up(objects, clock)
    assert predictor(objects) == edited


def test_an_edit_at_all_the_traffic_is_left_to_a_person() -> None:
    """At 0 % Knative would give it to the revision rolled out last: the candidate's, unedited."""
    objects, _, clock = knative_at(100)
    clock.sleep(2)
    objects.merge_patch(SERVICES, "models", "demo", {"spec": {"predictor": {"timeout": 5}}})
    edited = predictor(objects)
    clock.sleep(2)
    give_up(objects, clock)
    assert predictor(objects) == edited


def test_a_promotion_never_writes_to_an_edited_service() -> None:
    objects, _, clock = knative_at(50)
    objects.merge_patch(SERVICES, "models", "demo", {"spec": {"predictor": {"timeout": 5}}})
    edited = predictor(objects)
    traffic = router("Knative", objects, clock)
    for go_on in (
        lambda: traffic.set_weight(ARMS, 0),
        lambda: traffic.settle(ARMS, promoted=True),
    ):
        with pytest.raises(RefusedError):
            go_on()
    assert predictor(objects) == edited


@pytest.mark.parametrize(("weights", "left"), [((0, 10, 50), 10), ((0, 50, 0), 50)])
def test_an_edit_that_takes_the_place_of_our_write_leaves_the_candidate_no_share(
    weights: tuple[int, ...], left: int
) -> None:
    """The mark announces a share that was never written; what the spec says is the one before."""
    objects, observed, clock = bed("Knative", None)
    *before, last = weights
    Rollout(tuple(before), promoted=True).drive_weights(router("Knative", objects, clock), clock)

    def edit() -> None:
        objects.merge_patch(SERVICES, "models", "demo", {"spec": {"predictor": {"timeout": 5}}})

    # Write 0 is the mark, write 1 the percentage.
    process = CrashingObjects(objects, 1, interfere=edit)
    with pytest.raises(RefusedError):
        router("Knative", process, clock).set_weight(ARMS, last)
    edited = predictor(objects)
    assert edited["canaryTrafficPercent"] == left
    clock.sleep(2)
    give_up(objects, clock)
    assert predictor(objects) == {**edited, "canaryTrafficPercent": 0}
    clock.sleep(3)
    assert observed.shares_in("models")[-1] == {V1: 100}
    assert observed.losses == []


def test_a_share_that_somebody_sets_back_is_their_decision() -> None:
    objects, _, clock = bed("Knative", None)
    Rollout((0, 10, 50), promoted=True).drive_weights(router("Knative", objects, clock), clock)
    share = {"spec": {"predictor": {"canaryTrafficPercent": 10}}}
    objects.merge_patch(SERVICES, "models", "demo", share)
    clock.sleep(2)
    give_up(objects, clock)
    assert predictor(objects)["canaryTrafficPercent"] == 10
