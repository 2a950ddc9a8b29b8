"""A ModelRollout from its creation to its end, on a real API server and KServe's stand-in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import pytest
from kubernetes import client
from tests.cluster.bed.apiserver import ApiServer
from tests.cluster.bed.kserve_standin import KServeStandin
from tests.cluster.bed.services import service_in_new_namespace
from tests.cluster.operator_bed import RolloutBed, StandInPrometheus, install, weight_served

from davy.rollout import conditions
from davy.rollout.adapters.annotation_orders import ORDERS, with_order
from davy.rollout.kserve.moves import SERVICE_EDITED, SERVICE_GONE, UNSUPPORTED
from davy.rollout.orders import order
from davy.rollout.replay import replay
from davy.rollout.status import ModelRolloutStatus

pytestmark = pytest.mark.cluster

MODES = pytest.mark.parametrize("mode", ["Standard", "Knative"])
MakeBed = Callable[..., RolloutBed]


@pytest.fixture
def make_bed(apiserver: ApiServer, kserve: KServeStandin) -> Iterator[MakeBed]:
    install(apiserver)
    with ExitStack() as stack:

        def make(mode: str, *, errors: float = 0.0) -> RolloutBed:
            service = stack.enter_context(service_in_new_namespace(apiserver))
            service.create(mode)
            shares = kserve.observed.shares_in
            prometheus = StandInPrometheus(
                lambda: weight_served(shares, service.namespace), errors=errors
            )
            stack.callback(prometheus.close)
            api = stack.enter_context(apiserver.client())
            return RolloutBed(apiserver, service, prometheus, api)

        yield make


def has_weight(status: ModelRolloutStatus) -> bool:
    return status.weights is not None and status.weights.canary > 0


def why(bed: RolloutBed, kind: str, name: str = "take-over") -> tuple[str, str]:
    found = bed.status(name).condition(kind)
    assert found is not None
    return found.status, found.reason


def stable(bed: RolloutBed) -> str:
    predictor = bed.service.read()["spec"]["predictor"]
    return str(predictor["model"]["storageUri"])


@MODES
def test_a_good_canary_takes_over(mode: str, make_bed: MakeBed, kserve: KServeStandin) -> None:
    bed = make_bed(mode)
    bed.drive(bed.create())
    status = bed.status()
    assert (status.phase, status.step, status.attempt) == ("Promoted", 2, 1)
    assert why(bed, conditions.SUCCEEDED) == ("True", "Promoted")
    assert stable(bed) == "pvc://models/v2"
    assert sorted(bed.events()) == ["Advanced", "Advanced", "Promoted", "Promoting"]
    record = bed.record()
    assert replay(record).difference is None
    actions = [line.decision.action for line in record.looks if line.decision.action != "hold"]
    assert actions == ["advance", "advance", "promote", "finish"]
    assert kserve.observed.losses_in(bed.namespace) == []
    assert status.record_uri == f"configmap:{bed.namespace}/take-over-record-{_uid(bed)[:8]}-1"


BASELINE: dict[str, Any] = {
    "steps": [{"weight": 10, "minRequests": 10}, {"weight": 40, "minRequests": 10}],
    "analysis": {
        "interval": "0.5s", "deadline": "10m", "vetoes": ["signature"], "baseline": True
    },
}  # fmt: skip


def test_beside_a_baseline_a_good_canary_takes_over(
    make_bed: MakeBed, kserve: KServeStandin
) -> None:
    bed = make_bed("Standard")
    uid = bed.create(**BASELINE)
    bed.drive(uid, until=lambda status: status.weights is not None and status.weights.canary == 40)
    status = bed.status()
    assert status.document()["weights"] == {"stable": 20, "canary": 40, "baseline": 40}
    assert status.document()["versions"]["baseline"] == "v1+baseline"
    entries = {item["predictor"]["name"]: item for item in bed.service.read()["spec"]["canary"]}
    assert {name: item["trafficPercent"] for name, item in entries.items()} == {
        "v2": 40, "v1-baseline": 40
    }  # fmt: skip
    bed.drive(uid)
    assert bed.status().phase == "Promoted"
    assert stable(bed) == "pvc://models/v2"
    assert not bed.service.read()["spec"].get("canary")
    assert replay(bed.record()).difference is None
    assert kserve.observed.losses_in(bed.namespace) == []


def test_knative_has_no_place_for_a_baseline(make_bed: MakeBed) -> None:
    bed = make_bed("Knative")
    before = bed.service.read()["spec"]
    bed.drive(bed.create(**BASELINE))
    assert bed.status().phase == "Failed"
    assert why(bed, conditions.PROGRESSING) == ("False", UNSUPPORTED)
    assert bed.service.read()["spec"] == before


def _uid(bed: RolloutBed) -> str:
    found = bed.resource()
    assert found is not None
    return found.uid


@MODES
def test_a_bad_canary_goes(mode: str, make_bed: MakeBed, kserve: KServeStandin) -> None:
    bed = make_bed(mode, errors=0.2)
    bed.drive(bed.create())
    assert bed.status().phase == "RolledBack"
    assert why(bed, conditions.PROGRESSING) == ("False", "RolledBack")
    assert stable(bed) == "pvc://models/v1"
    assert "canary" not in bed.service.read()["spec"]
    assert kserve.observed.losses_in(bed.namespace) == []


@MODES
def test_deleted_midway_it_gives_the_weight_back(
    mode: str, make_bed: MakeBed, kserve: KServeStandin
) -> None:
    bed = make_bed(mode)
    uid = bed.create()
    # As kopf holds it.
    bed.patch({"metadata": {"finalizers": ["davylamp.dev/traffic"]}})
    bed.drive(uid, until=has_weight)
    bed.delete()
    bed.drive(uid)
    assert stable(bed) == "pvc://models/v1"
    assert "canary" not in bed.service.read()["spec"]
    assert kserve.observed.losses_in(bed.namespace) == []
    assert kserve.observed.shares_in(bed.namespace)[-1] == {"pvc://models/v1": 100}
    assert "Withdrawn" in bed.events()
    bed.patch({"metadata": {"finalizers": []}})
    assert bed.resource() is None


@MODES
def test_a_second_rollout_is_refused(mode: str, make_bed: MakeBed) -> None:
    bed = make_bed(mode)
    bed.drive(bed.create(), until=has_weight)
    bed.drive(bed.create("second"), name="second")
    assert bed.status("second").phase == "Failed"
    assert why(bed, conditions.ACCEPTED, "second") == ("False", "AnotherRollout")
    assert has_weight(bed.status())


@MODES
def test_an_inference_service_that_somebody_edits_stops_it(mode: str, make_bed: MakeBed) -> None:
    bed = make_bed(mode)
    uid = bed.create(steps=[{"weight": 10, "minDuration": "1h"}])
    bed.drive(uid, until=has_weight)
    bed.service.edit({"predictor": {"timeout": 5}})
    edited = bed.service.read()["spec"]
    bed.drive(uid)
    assert bed.status().phase == "Failed"
    assert why(bed, conditions.PROGRESSING) == ("False", SERVICE_EDITED)
    assert bed.service.read()["spec"] == edited


@MODES
def test_an_inference_service_that_is_deleted_stops_it(mode: str, make_bed: MakeBed) -> None:
    bed = make_bed(mode)
    uid = bed.create(steps=[{"weight": 10, "minDuration": "1h"}])
    bed.drive(uid, until=has_weight)
    bed.service.delete()
    bed.drive(uid)
    assert bed.status().phase == "Failed"
    assert why(bed, conditions.PROGRESSING) == ("False", SERVICE_GONE)
    bed.patch({"metadata": {"finalizers": ["davylamp.dev/traffic"]}})
    bed.delete()
    bed.drive(uid)  # and it does not hold what is deleted


def test_an_edited_spec_begins_anew_after_a_gap_in_which_nobody_watched(
    make_bed: MakeBed, kserve: KServeStandin
) -> None:
    bed = make_bed("Standard")
    uid = bed.create()
    bed.drive(uid, until=has_weight)
    # No operator runs meanwhile.
    bed.patch({"spec": {"steps": [{"weight": 20, "minRequests": 10}]}})
    bed.drive(uid)
    status = bed.status()
    assert (status.phase, status.attempt, status.observed_generation) == ("Promoted", 2, 2)
    assert bed.record(2).looks[0].weights.asked == 0
    assert kserve.observed.losses_in(bed.namespace) == []


def test_paused_and_resumed_it_goes_on_with_its_evidence(make_bed: MakeBed) -> None:
    bed = make_bed("Standard")
    uid = bed.create()
    bed.drive(uid, until=has_weight)
    bed.patch({"spec": {"paused": True}})
    bed.drive(uid, until=lambda status: status.phase == "Paused")
    looks = bed.status().looks
    bed.drive(uid, until=lambda status: status.looks > looks + 2)
    assert bed.status().phase == "Paused"
    bed.patch({"spec": {"paused": False}})
    bed.drive(uid)
    assert (bed.status().phase, bed.status().attempt) == ("Promoted", 1)


def test_an_order_on_the_resource_is_carried_out(make_bed: MakeBed) -> None:
    bed = make_bed("Standard")
    uid = bed.create(steps=[{"weight": 10, "minDuration": "1h"}])
    bed.drive(uid, until=has_weight)
    asked = order("rollback", by="on call", because="complaints", time=datetime.now(UTC))
    found = bed.resource()
    assert found is not None
    asked = asked.for_resource(found.uid, "v2", found.generation)
    bed.patch({"metadata": {"annotations": {ORDERS: with_order({}, asked)}}})
    bed.drive(uid)
    assert bed.status().phase == "RolledBack"
    assert {line.actor for line in bed.record().looks} == {"davy", "on call"}


def test_the_status_is_the_operators_own_and_the_spec_is_not(make_bed: MakeBed) -> None:
    bed = make_bed("Standard")
    bed.drive(bed.create(), until=has_weight)
    found = client.CustomObjectsApi(bed.api).get_namespaced_custom_object(
        "davylamp.dev", "v1alpha1", bed.namespace, "modelrollouts", "take-over"
    )
    managers = {
        (item["manager"], item["operation"], item.get("subresource", ""))
        for item in found["metadata"]["managedFields"]
    }
    assert ("davy-operator", "Apply", "status") in managers
    assert not [item for item in managers if item[0] == "davy-operator" and not item[2]]
