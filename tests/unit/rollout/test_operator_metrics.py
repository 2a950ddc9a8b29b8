"""What the operator says of rollouts that ended, failed or went: only what is so now."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from tests.fixtures.operator_cluster import OperatorBed, drive

from davy.core.errors import TemporaryError
from davy.rollout.kserve.moves import (
    SERVICE_EDITED,
    UNSUPPORTED,
    WEIGHT_NOT_FOLLOWED,
    Refuse,
    RefusedError,
)

WEIGHT = "davy_rollout_weight"
FAILED = "davy_rollout_failed"
WATCHED = "davy_rollout_watched_until_timestamp_seconds"


def with_weight() -> OperatorBed:
    bed = OperatorBed()
    bed.apply()
    drive(bed, ticks=3)
    assert bed.shown(WEIGHT) == {("canary", "v2"): 5.0, ("stable", "v1"): 95.0}
    return bed


def run(bed: OperatorBed, ticks: int = 100) -> None:
    """Tick on with one operator, whose metrics are looked at."""
    operator = bed.operator()
    for _ in range(ticks):
        deleting = bed.resources["shop", "next-basket"].deleting
        step = operator.withdraw if deleting else operator.tick
        pause = step("shop", "next-basket", "uid-0")
        if pause is None:
            return
        bed.clock.sleep(pause)
    raise AssertionError("does not end")


@pytest.mark.parametrize(("errors", "serving"), [(0.0, "v2"), (0.2, "v1")])
def test_after_the_end_one_version_is_said_to_serve_and_none_to_be_a_canary(
    errors: float, serving: str
) -> None:
    bed = OperatorBed(errors=errors)
    bed.apply()
    run(bed)
    assert bed.of().phase in {"Promoted", "RolledBack"}
    assert bed.shown(WEIGHT) == {("stable", serving): 100.0}
    assert bed.shown("davy_rollout_ratio_lower") == {}
    assert bed.shown("davy_rollout_decisions_total")["finish",] == 1.0


def test_a_deleted_rollout_leaves_no_weight_behind() -> None:
    bed = OperatorBed()
    bed.apply()
    operator = bed.operator()
    for _ in range(3):
        bed.clock.sleep(operator.tick("shop", "next-basket", "uid-0") or 0.0)
    assert ("canary", "v2") in bed.shown(WEIGHT)
    bed.delete()
    for _ in range(20):
        bed.clock.sleep(operator.withdraw("shop", "next-basket", "uid-0") or 1.0)
    assert bed.shown(WEIGHT) == {}


def test_another_candidate_leaves_no_weight_of_the_one_before() -> None:
    bed = OperatorBed()
    bed.apply()
    operator = bed.operator()
    for _ in range(3):
        bed.clock.sleep(operator.tick("shop", "next-basket", "uid-0") or 0.0)
    bed.apply(candidate={"version": "v3", "packageURI": "s3://models/v3"})
    while ("canary", "v3") not in bed.shown(WEIGHT):
        bed.clock.sleep(operator.tick("shop", "next-basket", "uid-0") or 0.0)
    assert ("canary", "v2") not in bed.shown(WEIGHT)


def test_one_that_fails_because_somebody_else_edited_it_is_said_to_be_unwatched() -> None:
    bed = with_weight()
    bed.refusing = RefusedError(Refuse(SERVICE_EDITED, "somebody else changed it"))
    asked = list(bed.cluster.asked)
    run(bed)
    assert bed.of().phase == "Failed"
    assert bed.cluster.asked == asked
    assert bed.shown(FAILED) == {(): 1.0}
    assert bed.shown(WEIGHT) == {}, "an alert that leaves canaries out would not watch it"
    run(bed)
    assert bed.shown(FAILED) == {(): 1.0}, "said again by an operator that was started later"
    bed.delete()
    run(bed)
    assert bed.shown(FAILED) == {}


@pytest.mark.parametrize("changes", [{"steps": []}, {"mood": 1}])
def test_one_that_fails_for_another_reason_gives_its_weight_back_first(
    changes: dict[str, Any],
) -> None:
    bed = with_weight()
    bed.apply(**changes)
    run(bed)
    assert bed.of().phase == "Failed"
    assert bed.cluster.weight == 0
    weights = bed.of().weights
    assert weights is not None
    assert weights.canary == 0
    assert bed.shown(FAILED) == {}


def test_one_whose_looks_are_refused_gives_its_weight_back_first() -> None:
    bed = with_weight()
    bed.looks_refused = RefusedError(Refuse(WEIGHT_NOT_FOLLOWED, "the routes stay as they are"))
    run(bed)
    assert (bed.of().phase, bed.cluster.weight) == ("Failed", 0)
    assert bed.shown(FAILED) == {}


@pytest.mark.parametrize("refusal", [RefusedError(Refuse(UNSUPPORTED, "a change freeze holds"))])
def test_one_whose_weight_cannot_be_taken_back_is_said_to_be_unwatched(
    refusal: RefusedError,
) -> None:
    bed = with_weight()
    bed.refusing = refusal
    run(bed)
    assert (bed.of().phase, bed.cluster.weight) == ("Failed", 5)
    assert bed.shown(FAILED) == {(): 1.0}


@pytest.mark.parametrize("away", ["its InferenceService", "the API server", "its counters"])
def test_a_canary_that_nobody_can_look_at_is_not_said_to_be_watched_for_long(away: str) -> None:
    """Its weight is said on: that it is undecided for a day is an alert of its own."""
    bed = OperatorBed()
    bed.apply()
    operator = bed.operator()
    for _ in range(3):
        bed.clock.sleep(operator.tick("shop", "next-basket", "uid-0") or 0.0)
    (until,) = bed.shown(WATCHED).values()
    # A look every five seconds, and samples older than fifteen are none.
    assert 0 < until - bed.clock.now().timestamp() <= 20
    bed.refusing = TemporaryError("no answer") if away == "its InferenceService" else None
    bed.unavailable, bed.cluster.silent = away == "the API server", away == "its counters"
    for _ in range(6):
        with contextlib.suppress(TemporaryError):
            operator.tick("shop", "next-basket", "uid-0")
        bed.clock.sleep(5)
    assert bed.shown(WATCHED) == {(): until}
    assert until < bed.clock.now().timestamp()
    assert bed.shown(WEIGHT)["canary", "v2"] == 5.0
    bed.refusing, bed.unavailable, bed.cluster.silent = None, False, False
    bed.clock.sleep(operator.tick("shop", "next-basket", "uid-0") or 0.0)
    operator.tick("shop", "next-basket", "uid-0")
    assert bed.shown(WATCHED)[()] > bed.clock.now().timestamp()


def test_one_that_never_began_or_only_has_trouble_is_not_said_to_have_failed() -> None:
    bed = OperatorBed()
    bed.apply(mood=1)
    run(bed)
    assert bed.of().phase == "Failed"
    assert bed.shown(FAILED) == {}
    bed = with_weight()
    bed.refusing = TemporaryError("no answer")
    operator = bed.operator()
    assert operator.tick("shop", "next-basket", "uid-0") is not None
    assert bed.shown(FAILED) == {}
