"""The operator and the step before the first weight: it waits, takes over, or fails at once."""

from __future__ import annotations

from typing import Any

from tests.fixtures.operator_cluster import OperatorBed, StandInPlaces, drive

from davy.rollout import conditions
from davy.rollout.decide import SHADOWING
from davy.rollout.indicators import SHADOW_ERRORS
from davy.rollout.operator.ports import Resource
from davy.rollout.series import (
    SHADOW_DIFFERENT,
    SHADOW_REQUESTS,
    Sample,
    SeriesKey,
)
from davy.rollout.spec import Candidate


def counted(bed: OperatorBed, different: int) -> None:
    """Have a detector say that it has sent requests: none at the first scrape, then 2,000."""
    rows = {
        SeriesKey(SHADOW_REQUESTS, "v2", "detector", "answered"): 2000,
        SeriesKey(SHADOW_REQUESTS, "v2", "detector", "failed"): 0,
        SeriesKey(SHADOW_DIFFERENT, "v2", "detector", "0.1"): different,
    }
    now = bed.clock.now().timestamp()
    for key, value in rows.items():
        bed.cluster.history[key] = [Sample(now - 1, 0), Sample(now, value)]


def test_it_waits_at_weight_0_until_somebody_has_sent_requests() -> None:
    bed = OperatorBed()
    bed.apply(shadow={"requests": 500})
    drive(bed, ticks=10)
    status = bed.of()
    assert (status.phase, status.weights.canary, status.step) == ("Pending", 0, 0)
    said = status.condition(conditions.PROGRESSING)
    assert said is not None
    assert said.reason == SHADOWING
    assert SHADOW_ERRORS in said.message
    assert bed.service is not None
    assert bed.service.canary == "v2", "a canary that is not there cannot be sent anything"
    assert {verdict.indicator for verdict in status.verdicts} > {SHADOW_ERRORS}
    counted(bed, different=0)
    drive(bed)
    assert bed.of().phase == "Promoted"


def test_a_canary_that_answers_otherwise_never_has_weight() -> None:
    bed = OperatorBed()
    bed.apply(shadow={"requests": 500})
    drive(bed, ticks=4)
    counted(bed, different=900)
    drive(bed)
    assert bed.of().phase == "RolledBack"
    assert set(bed.cluster.asked) <= {0}
    assert bed.service is not None
    assert (bed.service.stable, bed.service.canary) == ("v1", None)


def test_knative_mode_is_refused_at_once() -> None:
    bed = OperatorBed()
    bed.apply(shadow={}, traffic="Knative")
    drive(bed, ticks=2)
    status = bed.of()
    assert status.phase == "Failed"
    accepted = status.condition(conditions.ACCEPTED)
    assert accepted is not None
    assert "cannot be reached before it has traffic" in accepted.message
    assert not bed.cluster.asked


def test_where_the_mode_is_found_out_it_is_standard_that_is_asked_for(monkeypatch: Any) -> None:
    asked: list[str] = []
    made = StandInPlaces.delivery

    def delivery(
        self: StandInPlaces, resource: Resource, identity: str, candidate: Candidate, traffic: str
    ) -> Any:
        asked.append(traffic)
        return made(self, resource, identity, candidate, traffic)

    monkeypatch.setattr(StandInPlaces, "delivery", delivery)
    for shadow, traffic in ((None, "Auto"), ({"requests": 1}, "Standard")):
        bed = OperatorBed()
        bed.apply(**({} if shadow is None else {"shadow": shadow}))
        drive(bed, ticks=1)
        assert set(asked) == {traffic}
        asked.clear()
