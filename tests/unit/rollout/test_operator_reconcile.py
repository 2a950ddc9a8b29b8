"""The operator on a cluster in memory: what goes on, ends, is refused, is undone."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from tests.fixtures.operator_cluster import OperatorBed, StandInService, actions, drive, told

from davy.rollout import conditions
from davy.rollout.kserve.moves import SERVICE_EDITED, SERVICE_GONE
from davy.rollout.replay import replay


def reason(bed: OperatorBed, kind: str, name: str = "next-basket") -> tuple[str, str]:
    found = bed.of(name).condition(kind)
    assert found is not None
    return found.status, found.reason


def test_a_good_canary_is_promoted_and_the_arm_that_leaves_is_drained_first() -> None:
    bed = OperatorBed()
    bed.apply()
    drive(bed)
    status = bed.of()
    assert status.phase == "Promoted"
    assert bed.service == StandInService(stable="v2", owner=bed.service.owner,
                                         drained_at=bed.service.drained_at)  # fmt: skip
    assert actions(bed.record()) == ["advance", "advance", "promote", "finish"]
    assert told(bed) == ["Advanced", "Advanced", "Promoting", "Promoted"]
    assert reason(bed, conditions.SUCCEEDED) == ("True", "Promoted")
    assert reason(bed, conditions.PROGRESSING) == ("False", "Promoted")
    assert (status.weights.canary, status.step, status.settled_attempt) == (100, 2, 1)
    assert (status.versions.stable, status.versions.canary) == ("v1", "v2")
    assert status.verdicts[0].outcome == "pass"
    assert status.evidence[0].canary_requests > 500
    assert replay(bed.record()).difference is None


def test_the_phases_follow_each_other() -> None:
    bed = OperatorBed()
    bed.apply()
    drive(bed)
    phases = [phase for phase, _ in itertools.groupby(item.phase for item in bed.statuses)]
    assert phases == ["Pending", "Progressing", "Promoting", "Promoted"]


def test_a_bad_canary_is_rolled_back_and_the_cause_stays_readable() -> None:
    bed = OperatorBed(errors=0.2)
    bed.apply()
    drive(bed)
    assert bed.of().phase == "RolledBack"
    assert bed.service is not None
    assert (bed.service.stable, bed.service.canary, bed.service.lost) == ("v1", None, 0)
    assert reason(bed, conditions.SUCCEEDED) == ("False", "RolledBack")
    cause = bed.of().condition(conditions.SUCCEEDED)
    assert cause is not None
    assert cause.message.startswith("IndicatorFailed: errors: at least")
    assert told(bed) == ["Advanced", "RollingBack", "RolledBack"]


def test_nothing_more_is_done_once_it_has_ended() -> None:
    bed = OperatorBed()
    bed.apply()
    drive(bed)
    before = bed.cluster.effects
    drive(bed)
    assert bed.cluster.effects == before


def test_paused_goes_no_step_on_and_goes_on_with_the_same_evidence() -> None:
    bed = OperatorBed()
    bed.apply()
    drive(bed, ticks=3)
    bed.apply(paused=True)
    drive(bed, ticks=30)
    assert bed.of().phase == "Paused"
    assert bed.of().observed_generation == 2
    assert reason(bed, conditions.PROGRESSING) == ("True", "Paused")
    assert bed.of().step == 1
    looks = bed.of().looks
    bed.apply(paused=False)
    drive(bed)
    assert bed.of().phase == "Promoted"
    assert bed.of().attempt == 1
    assert bed.of().looks > looks


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"steps": [{"weight": 50}, {"weight": 5}]}, "SpecInvalid"),
        ({"mood": 1}, "SpecInvalid"),
        ({"inferenceServiceRef": None}, "SpecInvalid"),
        ({"candidate": {"version": "v9", "image": "x"}}, "NotFound"),
    ],
)
def test_what_cannot_be_done_fails_at_once_with_the_reason(
    changes: dict[str, Any], why: str
) -> None:
    bed = OperatorBed()
    bed.apply(**changes)
    drive(bed, ticks=1)
    assert bed.of().phase == "Failed"
    assert reason(bed, conditions.PROGRESSING) == ("False", why)
    assert bed.cluster.asked == []


def test_an_inference_service_that_is_deleted_midway_ends_it() -> None:
    bed = OperatorBed()
    bed.apply()
    drive(bed, ticks=4)
    bed.service = None
    drive(bed)
    assert bed.of().phase == "Failed"
    assert reason(bed, conditions.PROGRESSING) == ("False", SERVICE_GONE)
    bed.delete()
    drive(bed)  # does not hold the resource


def test_one_that_somebody_else_edited_is_not_fought_over() -> None:
    bed = OperatorBed()
    bed.apply()
    drive(bed, ticks=4)
    assert bed.service is not None
    bed.service.edited = True
    asked = list(bed.cluster.asked)
    drive(bed)
    assert bed.of().phase == "Failed"
    assert reason(bed, conditions.PROGRESSING) == ("False", SERVICE_EDITED)
    bed.delete()
    drive(bed)
    assert bed.cluster.asked == asked
    assert told(bed)[-1] == "LeftAsItIs"


def test_deleted_midway_it_gives_the_weight_back_before_it_goes() -> None:
    bed = OperatorBed()
    bed.apply()
    drive(bed, ticks=4)
    assert bed.cluster.weight
    bed.delete()
    operator = bed.operator()
    assert operator.tick("shop", "next-basket", "uid-0") is None, "a deleted one takes no look"
    assert operator.withdraw("shop", "next-basket", "uid-0") is not None
    drive(bed)
    assert bed.service is not None
    assert (bed.cluster.weight, bed.service.canary, bed.service.lost) == (0, None, 0)
    assert told(bed)[-1] == "Withdrawn"


def test_deleted_before_it_began_it_goes_at_once() -> None:
    bed = OperatorBed()
    bed.apply()
    bed.delete()
    assert bed.operator().withdraw("shop", "next-basket", "uid-0") is None
    assert bed.cluster.effects == 0


def test_deleted_with_a_record_that_cannot_be_read_it_still_takes_the_canary_away() -> None:
    bed = OperatorBed()
    bed.apply()
    drive(bed, ticks=4)
    bed.records["uid-0"][1][0] = (b"not a record\n", 99, False)
    bed.delete()
    drive(bed)
    assert bed.service is not None
    assert (bed.cluster.weight, bed.service.canary) == (0, None)


def test_deleted_in_the_foreground_its_record_goes_first_and_the_canary_still_goes() -> None:
    bed = OperatorBed()
    bed.apply()
    drive(bed, ticks=4)
    bed.records.clear()
    bed.delete()
    drive(bed)
    assert bed.service is not None
    assert (bed.cluster.weight, bed.service.canary, bed.service.lost) == (0, None, 0)


def test_an_error_that_passes_is_tried_again_more_and_more_slowly() -> None:
    bed = OperatorBed()
    bed.apply()
    operator = bed.operator()
    operator.tick("shop", "next-basket", "uid-0")
    bed.leading = False  # the record's write is refused
    waits = [operator.tick("shop", "next-basket", "uid-0") for _ in range(3)]
    assert waits == [5.0, 10.0, 20.0]
    assert reason(bed, conditions.RECONCILED) == ("False", "TemporaryError")
    assert bed.of().phase == "Progressing"
    writes = len(bed.statuses)
    operator.tick("shop", "next-basket", "uid-0")
    assert len(bed.statuses) == writes, "the same trouble is written once"
    bed.leading = True
    drive(bed)
    assert bed.of().phase == "Promoted"
    assert reason(bed, conditions.RECONCILED) == ("True", "Reconciled")


def test_of_two_operators_on_one_rollout_only_one_decides_a_look() -> None:
    bed = OperatorBed()
    bed.apply()
    one, other = bed.operator(), bed.operator()
    for operator in (one, other, one, one, other):
        operator.tick("shop", "next-basket", "uid-0")
        bed.clock.sleep(5)
    looks = [line.look for line in bed.record().looks]
    assert looks == list(range(1, len(looks) + 1))
    assert replay(bed.record()).difference is None
