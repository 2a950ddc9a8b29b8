"""Long waits between two weights: a cluster that has just been asked is not one that never follows.

Looks at a weight are minutes apart, and gateways restart: neither ends a rollout.
"""

from __future__ import annotations

import pytest
from tests.fixtures.kserve_bed import ARMS, Rollout, TickingClock, bed, router
from tests.fixtures.memory_objects import MemoryObjects

from davy.rollout.adapters.kserve_service import KServeService
from davy.rollout.adapters.kserve_standard import HTTP_ROUTES
from davy.rollout.kserve.moves import WEIGHT_NOT_FOLLOWED, RefusedError
from davy.rollout.kserve.standard import FOLLOW_SECONDS

LONG = FOLLOW_SECONDS + 10.0
ROUTES = ("demo", "demo-predictor")


def begun(mode: str, weights: tuple[int, ...]) -> tuple[MemoryObjects, TickingClock, KServeService]:
    """A rollout that is at the last of the weights."""
    objects, _, clock = bed(mode, None)
    traffic = router(mode, objects, clock)
    Rollout(weights, promoted=True).drive_weights(traffic, clock)
    return objects, clock, traffic


def stopped(clock: TickingClock) -> None:
    """From now on nobody acts on the objects: KServe's controller is down."""
    clock.tick = lambda now: None


def answered_by_the_gateway(objects: MemoryObjects, status: str) -> None:
    """Have the gateway say of every route, as it is written, that it is accepted or not."""
    for name in ROUTES:
        route = objects.get(HTTP_ROUTES, "models", name)
        assert route is not None
        generation = route["metadata"]["generation"]
        conditions = [
            {"type": kind, "status": status, "observedGeneration": generation}
            for kind in ("Accepted", "ResolvedRefs")
        ]
        body = {"status": {"parents": [{"conditions": conditions}]}}
        objects.merge_patch(HTTP_ROUTES, "models", f"{name}/status", body)


@pytest.mark.parametrize("mode", ["Standard", "Knative"])
@pytest.mark.parametrize("weights", [(0,), (0, 10), (0, 10, 50)])
def test_a_weight_asked_for_after_minutes_at_another_is_followed(
    mode: str, weights: tuple[int, ...]
) -> None:
    _, clock, traffic = begun(mode, weights)
    for percent in (70, 100, 20, 0):
        # Looks in between, as an engine makes them: what they see has not changed for long.
        for _ in range(2):
            clock.sleep(LONG)
            assert traffic.read_weight(ARMS) is not None
        traffic.set_weight(ARMS, percent)
        assert traffic.read_weight(ARMS) == percent


def test_a_promotion_and_a_rollback_after_minutes_drain_first() -> None:
    for promoted in (True, False):
        objects, observed, clock = bed("Standard", None)
        traffic = router("Standard", objects, clock)
        Rollout((0, 50), promoted=promoted).drive_weights(traffic, clock)
        clock.sleep(LONG)
        Rollout((), promoted=promoted).drive(traffic, clock)
        assert observed.losses == []


def test_a_controller_that_is_away_for_less_than_the_limit_is_waited_for() -> None:
    _, clock, traffic = begun("Standard", (0, 10))
    clock.sleep(LONG)
    tick = clock.tick
    stopped(clock)
    traffic.set_weight(ARMS, 50)
    clock.sleep(FOLLOW_SECONDS / 2)
    traffic.set_weight(ARMS, 50)
    clock.tick = tick
    traffic.set_weight(ARMS, 50)
    assert traffic.read_weight(ARMS) == 50


def test_routes_that_the_gateway_accepts_and_nobody_changes_are_an_error() -> None:
    _, clock, traffic = begun("Standard", (0, 10))
    clock.sleep(LONG)
    stopped(clock)
    traffic.set_weight(ARMS, 50)
    clock.sleep(LONG)
    with pytest.raises(RefusedError) as caught:
        traffic.set_weight(ARMS, 50)
    assert caught.value.reason == WEIGHT_NOT_FOLLOWED


def test_a_gateway_that_restarts_for_minutes_ends_no_rollout() -> None:
    objects, clock, traffic = begun("Standard", (0, 10))
    answered_by_the_gateway(objects, "Unknown")
    assert traffic.read_weight(ARMS) is None, "what a gateway has not accepted is not what it does"
    for _ in range(5):
        traffic.set_weight(ARMS, 10)
        clock.sleep(LONG)
    answered_by_the_gateway(objects, "True")
    traffic.set_weight(ARMS, 10)
    assert traffic.read_weight(ARMS) == 10
    traffic.set_weight(ARMS, 50)
    assert traffic.read_weight(ARMS) == 50
