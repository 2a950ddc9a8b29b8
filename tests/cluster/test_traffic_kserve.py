"""Both modes of KServe as a router, on a real API server: promotion, rollback, and interference."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.cluster.bed.apiserver import ApiServer
from tests.cluster.bed.crds import inference_service_crd
from tests.cluster.bed.kserve_standin import KServeStandin
from tests.cluster.bed.services import TestService, eventually, service_in_new_namespace

from davy.core.clock import SystemClock
from davy.core.errors import ConfigurationError, NotFoundError
from davy.rollout.adapters.kserve_detect import detect_mode, kserve_router
from davy.rollout.adapters.kserve_service import KServeService
from davy.rollout.adapters.kubernetes_objects import KubernetesObjects
from davy.rollout.kserve.mode import Mode
from davy.rollout.kserve.moves import (
    SERVICE_BUSY,
    SERVICE_EDITED,
    SERVICE_GONE,
    UNSUPPORTED,
    RefusedError,
)
from davy.rollout.series import Arms
from davy.rollout.spec import Candidate

pytestmark = pytest.mark.cluster

ARMS = Arms(stable="v1", canary="v2")
V1, V2 = "pvc://models/v1", "pvc://models/v2"
MODES = pytest.mark.parametrize("mode", ["Standard", "Knative"])


@pytest.fixture
def service(apiserver: ApiServer, kserve: KServeStandin) -> Iterator[TestService]:
    with service_in_new_namespace(apiserver) as made:
        yield made


def router(
    service: TestService, *, rollout: str = "r1", version: str = "v2", uri: str = V2
) -> KServeService:
    """A router with shorter waits than a real gateway needs; a new one is one after a restart."""
    return kserve_router(
        service.objects,
        namespace=service.namespace,
        service=service.name,
        rollout=rollout,
        candidate=Candidate(version=version, packageURI=uri),
        clock=SystemClock(),
        patience=10.0,
        drain=0.6,
        lag=0.8,
    )


def start(service: TestService, **more: str) -> KServeService:
    """Make the canary and wait until it is ready, without weight."""
    traffic = router(service, **more)
    traffic.set_weight(ARMS, 0)
    eventually("both arms are ready", lambda: traffic.not_ready(ARMS) == ())
    assert traffic.read_weight(ARMS) == 0
    return traffic


def finish(traffic: KServeService, *, promoted: bool) -> None:
    eventually("it is settled", lambda: traffic.settle(ARMS, promoted=promoted))


@MODES
@pytest.mark.parametrize("replicas", [None, 4])
def test_a_promotion_loses_nothing(
    mode: str, replicas: int | None, service: TestService, kserve: KServeStandin
) -> None:
    service.create(mode, replicas=replicas)
    traffic = start(service)
    for percent in (10, 50, 100):
        traffic.set_weight(ARMS, percent)
        assert traffic.read_weight(ARMS) == percent
    finish(traffic, promoted=True)
    spec = service.read()["spec"]
    assert spec["predictor"]["model"]["storageUri"] == V2
    assert "canary" not in spec
    assert "canaryTrafficPercent" not in spec["predictor"]
    assert spec["predictor"].get("minReplicas") == replicas
    assert kserve.observed.losses_in(service.namespace) == []
    assert kserve.observed.shares_in(service.namespace) == [
        {V1: 100},
        {V1: 90, V2: 10},
        {V1: 50, V2: 50},
        {V2: 100},
    ]
    # The next rollout's stable arm; this one's stays what it was.
    assert router(service, rollout="r2", version="v3").serving() == "v2"
    assert traffic.serving() == "v1"


@MODES
def test_a_rollback_loses_nothing(mode: str, service: TestService, kserve: KServeStandin) -> None:
    service.create(mode)
    before = service.read()["spec"]
    traffic = start(service)
    for percent in (50, 0):
        traffic.set_weight(ARMS, percent)
        assert traffic.read_weight(ARMS) == percent
    finish(traffic, promoted=False)
    assert service.read()["spec"] == before
    assert kserve.observed.losses_in(service.namespace) == []
    assert kserve.observed.shares_in(service.namespace) == [
        {V1: 100},
        {V1: 50, V2: 50},
        {V1: 100},
    ]


@MODES
def test_a_rollback_from_all_the_traffic(
    mode: str, service: TestService, kserve: KServeStandin
) -> None:
    service.create(mode)
    traffic = start(service)
    traffic.set_weight(ARMS, 100)
    finish(traffic, promoted=False)
    assert service.read()["spec"]["predictor"]["model"]["storageUri"] == V1
    assert kserve.observed.losses_in(service.namespace) == []
    assert kserve.observed.shares_in(service.namespace)[-1] == {V1: 100}


@MODES
def test_a_candidate_that_is_never_ready_is_taken_back(
    mode: str, service: TestService, kserve: KServeStandin
) -> None:
    service.create(mode)
    traffic = router(service, uri="pvc://models/never-ready")
    traffic.set_weight(ARMS, 0)
    assert traffic.not_ready(ARMS) == ("v2",)
    finish(traffic, promoted=False)
    eventually("it serves again", service.is_ready)
    assert service.read()["spec"]["predictor"]["model"]["storageUri"] == V1
    assert kserve.observed.shares_in(service.namespace) == [{V1: 100}]
    assert kserve.observed.losses_in(service.namespace) == []


@MODES
def test_an_edit_by_somebody_else_stops_it(mode: str, service: TestService) -> None:
    service.create(mode)
    traffic = start(service)
    traffic.set_weight(ARMS, 10)
    service.edit({"predictor": {"model": {"storageUri": "pvc://models/somebodys"}}})
    edited = service.read()["spec"]
    for go_on in (
        lambda: traffic.set_weight(ARMS, 50),
        lambda: traffic.settle(ARMS, promoted=True),
    ):
        with pytest.raises(RefusedError, match="kubectl-edit") as caught:
            go_on()
        assert caught.value.reason == SERVICE_EDITED
    assert service.read()["spec"] == edited


@MODES
def test_a_weight_set_by_hand_stops_it(mode: str, service: TestService) -> None:
    service.create(mode)
    traffic = start(service)
    traffic.set_weight(ARMS, 10)
    if mode == "Knative":
        service.edit({"predictor": {"canaryTrafficPercent": 70}})
    else:
        (canary,) = service.read()["spec"]["canary"]
        service.edit({"canary": [{**canary, "trafficPercent": 70}]})
    with pytest.raises(RefusedError) as caught:
        traffic.set_weight(ARMS, 50)
    assert caught.value.reason == SERVICE_EDITED


def test_an_edited_service_still_gets_rid_of_its_canary(
    service: TestService, kserve: KServeStandin
) -> None:
    service.create("Standard")
    traffic = start(service)
    traffic.set_weight(ARMS, 50)
    service.edit({"predictor": {"timeout": 5}})
    finish(traffic, promoted=False)
    spec = service.read()["spec"]
    assert "canary" not in spec
    assert spec["predictor"]["timeout"] == 5
    assert kserve.observed.losses_in(service.namespace) == []


def test_an_edited_knative_service_still_gets_its_traffic_back(
    service: TestService, kserve: KServeStandin
) -> None:
    service.create("Knative")
    traffic = start(service)
    traffic.set_weight(ARMS, 50)
    service.edit({"predictor": {"timeout": 5}})
    with pytest.raises(RefusedError, match="kubectl-edit") as caught:
        traffic.settle(ARMS, promoted=False)
    assert caught.value.reason == SERVICE_EDITED
    found = service.read()["spec"]["predictor"]
    assert (found["canaryTrafficPercent"], found["timeout"]) == (0, 5)
    shares = kserve.observed.shares_in
    eventually("the stable arm has it all", lambda: shares(service.namespace)[-1] == {V1: 100})
    assert kserve.observed.losses_in(service.namespace) == []


@MODES
def test_a_deleted_service_stops_it(mode: str, service: TestService) -> None:
    service.create(mode)
    traffic = start(service)
    service.delete()
    with pytest.raises(RefusedError) as caught:
        traffic.set_weight(ARMS, 10)
    assert caught.value.reason == SERVICE_GONE
    assert traffic.read_weight(ARMS) is None
    assert traffic.settle(ARMS, promoted=False)
    with pytest.raises(NotFoundError):
        traffic.serving()


@MODES
def test_a_service_made_anew_is_not_the_one_that_was_judged(
    mode: str, service: TestService
) -> None:
    service.create(mode)
    traffic = start(service)
    traffic.set_weight(ARMS, 10)
    service.delete()
    eventually("its objects are gone", lambda: not service.workloads())
    service.create(mode)
    with pytest.raises(RefusedError) as caught:
        traffic.set_weight(ARMS, 50)
    assert caught.value.reason == SERVICE_EDITED
    assert traffic.settle(ARMS, promoted=False)


@MODES
def test_a_second_rollout_is_refused_until_the_first_has_ended(
    mode: str, service: TestService
) -> None:
    service.create(mode)
    first = start(service)
    second = router(service, rollout="r2", version="v3", uri="pvc://models/v3")
    third = Arms(stable="v1", canary="v3")
    with pytest.raises(RefusedError) as caught:
        second.set_weight(third, 0)
    assert caught.value.reason == SERVICE_BUSY
    finish(first, promoted=False)
    second.set_weight(third, 0)
    eventually("both arms are ready", lambda: second.not_ready(third) == ())


def test_without_drain_the_stand_in_sees_the_loss(
    service: TestService, kserve: KServeStandin
) -> None:
    """What the others rely on: taking an arm out while it has weight is recorded."""
    service.create("Standard")
    traffic = start(service)
    traffic.set_weight(ARMS, 50)
    service.edit({"canary": None})
    eventually("the canary is gone", lambda: len(service.workloads()) == 1)
    assert len(kserve.observed.losses_in(service.namespace)) == 1


def test_a_candidate_that_kserve_would_not_promote_is_refused_before_it_begins(
    service: TestService,
) -> None:
    service.create("Standard")
    before = service.read()["spec"]
    with pytest.raises(RefusedError) as caught:
        router(service, uri=V1).set_weight(ARMS, 0)
    assert caught.value.reason == UNSUPPORTED
    assert service.read()["spec"] == before


def test_what_the_webhook_says_reaches_the_reader(service: TestService) -> None:
    service.create("Standard")
    with pytest.raises(Exception, match="trafficPercent must be") as caught:
        service.edit(
            {
                "canary": [
                    {
                        "trafficPercent": 101,
                        "predictor": {"name": "x", "model": {"modelFormat": {"name": "davy"}}},
                    }
                ]
            }
        )
    assert "admission webhook" in str(caught.value)


@MODES
def test_the_mode_is_found(mode: str, service: TestService) -> None:
    service.create(mode)
    found = detect_mode(service.objects, namespace=service.namespace, service=service.name)
    assert found == Mode(mode)
    other = "Knative" if mode == "Standard" else "Standard"
    with pytest.raises(RefusedError, match=f"it is in {mode} mode"):
        detect_mode(
            service.objects, namespace=service.namespace, service=service.name, wanted=other
        )


def test_an_operator_without_permission_says_which(
    apiserver: ApiServer, service: TestService
) -> None:
    kubeconfig = apiserver.kubeconfig_for("powerless")
    with apiserver.client(kubeconfig) as api, pytest.raises(ConfigurationError, match="forbidden"):
        detect_mode(KubernetesObjects(api), namespace=service.namespace, service="demo")


def test_a_crd_without_a_schema_keeps_the_rest_of_the_spec(
    apiserver: ApiServer, service: TestService
) -> None:
    """KServe's minimal CRDs make `spec` one atomic map: an apply of a part would replace it."""
    apiserver.install_crd(inference_service_crd(minimal=True))
    try:
        service.create("Standard", timeout=7)
        traffic = start(service)
        traffic.set_weight(ARMS, 50)
        assert service.read()["spec"]["predictor"]["timeout"] == 7
        finish(traffic, promoted=False)
    finally:
        apiserver.install_crd(inference_service_crd())


def test_an_older_kserve_without_canaries_is_refused(
    apiserver: ApiServer, service: TestService
) -> None:
    apiserver.install_crd(inference_service_crd(canary=False))
    try:
        service.create("Standard")
        with pytest.raises(RefusedError, match=r"has no spec\.canary") as caught:
            router(service)
        assert caught.value.reason == UNSUPPORTED
    finally:
        apiserver.install_crd(inference_service_crd())
