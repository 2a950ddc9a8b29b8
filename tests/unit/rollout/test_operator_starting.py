"""How a rollout begins on a cluster in memory: claims, what is refused, what begins anew."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.fixtures.operator_cluster import FACTS, OperatorBed, actions, drive
from tests.fixtures.rollout_cluster import CrashedHereError

from davy.rollout import conditions


def reason(bed: OperatorBed, kind: str, name: str = "next-basket") -> tuple[str, str]:
    found = bed.of(name).condition(kind)
    assert found is not None
    return found.status, found.reason


def test_it_claims_before_anything_else() -> None:
    bed = OperatorBed(crash_at=2)
    bed.apply()
    with pytest.raises(CrashedHereError):
        bed.operator().tick("shop", "next-basket", "uid-0")
    assert bed.of().claimed
    assert bed.records in ({"uid-0": {}}, {})


def test_a_second_rollout_of_the_same_service_is_refused_with_the_reason() -> None:
    bed = OperatorBed()
    bed.apply()
    drive(bed, ticks=3)
    bed.apply("second")
    drive(bed, "second")
    assert bed.of("second").phase == "Failed"
    assert reason(bed, conditions.ACCEPTED, "second") == ("False", "AnotherRollout")
    assert "held by rollout 'next-basket'" in bed.of("second").conditions[0].message
    drive(bed)
    assert bed.of().phase == "Promoted"


def test_of_two_that_have_not_begun_the_older_one_acts_whichever_comes_first() -> None:
    bed = OperatorBed()
    bed.apply()
    bed.apply("second")
    drive(bed, "second")
    drive(bed)
    assert (bed.of().phase, bed.of("second").phase) == ("Promoted", "Failed")


def test_the_one_that_has_begun_keeps_it_though_an_older_one_comes_later() -> None:
    bed = OperatorBed()
    bed.apply()
    bed.apply("second")
    late = bed.resources.pop(("shop", "next-basket"))
    drive(bed, "second", ticks=3)
    bed.resources["shop", "next-basket"] = late
    drive(bed)
    assert bed.of().phase == "Failed"


def test_a_refused_one_begins_when_it_is_edited_after_the_other_has_ended() -> None:
    bed = OperatorBed()
    bed.apply()
    drive(bed, ticks=3)
    bed.apply("second", candidate={"version": "v3", "packageURI": "s3://models/v3"})
    drive(bed, "second")
    drive(bed)
    bed.apply("second", onInconclusive="Rollback")
    drive(bed, "second")
    assert bed.of("second").phase == "Promoted"
    assert bed.service is not None
    assert bed.service.stable == "v3"


def test_another_spec_begins_anew_after_the_canary_gave_its_weight_back() -> None:
    bed = OperatorBed()
    bed.apply()
    drive(bed, ticks=5)
    assert bed.cluster.weight in {5, 50}
    bed.apply(steps=[{"weight": 20}])
    drive(bed)
    assert bed.of().phase == "Promoted"
    assert bed.of().attempt == 2
    assert actions(bed.record(attempt=2)) == ["advance", "promote", "finish"]
    first_of_second = bed.record(attempt=2).looks[0]
    assert (first_of_second.look, first_of_second.weights.asked) == (1, 0)
    assert bed.service is not None
    assert bed.service.lost == 0


def test_another_candidate_begins_anew() -> None:
    bed = OperatorBed()
    bed.apply()
    drive(bed, ticks=5)
    bed.apply(candidate={"version": "v3", "packageURI": "s3://models/v3"})
    drive(bed)
    assert bed.service is not None
    assert (bed.service.stable, bed.of().attempt, bed.of().versions.stable) == ("v3", 2, "v1")


def test_after_a_promotion_the_next_candidate_is_compared_with_the_one_that_serves() -> None:
    bed = OperatorBed()
    bed.apply()
    drive(bed)
    bed.apply(candidate={"version": "v3", "packageURI": "s3://models/v3"})
    drive(bed)
    assert (bed.of().versions.stable, bed.of().versions.canary) == ("v2", "v3")
    assert bed.of().phase == "Promoted"


def test_editing_the_steps_of_a_promoted_one_does_nothing_more() -> None:
    bed = OperatorBed()
    bed.apply()
    drive(bed)
    bed.apply(steps=[{"weight": 20}])
    drive(bed)
    assert (bed.of().phase, bed.of().attempt) == ("Promoted", 1)
    assert bed.of().observed_generation == 2


def test_a_candidate_that_serves_already_is_refused() -> None:
    bed = OperatorBed()
    assert bed.service is not None
    bed.service.stable = "v2"
    bed.apply()
    drive(bed)
    assert bed.of().phase == "Failed"
    assert reason(bed, conditions.PROGRESSING) == ("False", "CandidateServesAlready")


@pytest.mark.parametrize("errors", [0.0, 0.2])
def test_started_without_the_package_store_it_still_watches_a_canary_with_traffic(
    errors: float,
) -> None:
    bed = OperatorBed(errors=errors)
    bed.apply()
    drive(bed, ticks=1)
    assert bed.cluster.weight == 5
    bed.packages = {}
    drive(bed, ticks=20)
    if errors:
        assert bed.of().phase == "RolledBack"
    else:
        assert reason(bed, conditions.PROGRESSING) == ("True", "VetoActive")
        assert bed.cluster.weight == 5
        bed.packages = {"v2": FACTS}
        drive(bed)
        assert bed.of().phase == "Promoted"


def test_a_new_resource_of_the_same_name_is_another_rollout() -> None:
    bed = OperatorBed()
    bed.apply()
    key = ("shop", "next-basket")
    bed.resources[key] = replace(bed.resources[key], uid="uid-new")
    assert bed.operator().tick("shop", "next-basket", "uid-0") is None
    assert bed.cluster.effects == 0
