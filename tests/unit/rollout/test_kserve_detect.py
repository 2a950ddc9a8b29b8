"""What is asked of a cluster before a rollout begins, and what each lack is called."""

from __future__ import annotations

from typing import Any

import pytest
from tests.cluster.bed.crds import inference_service_crd

from davy.core.clock import SystemClock
from davy.core.errors import ConfigurationError, DavyError, NotFoundError, UnavailableError
from davy.rollout.adapters.kserve_detect import kserve_router
from davy.rollout.adapters.kserve_knative import KServeKnative
from davy.rollout.adapters.kserve_service import KServeService
from davy.rollout.adapters.kserve_standard import KServeStandard
from davy.rollout.kserve.moves import UNSUPPORTED, RefusedError
from davy.rollout.spec import Candidate

SERVED = {"inferenceservices", "httproutes"}


class StatedCluster:
    """Stands in for an API server: serves what is stated."""

    def __init__(
        self,
        *,
        served: set[str] = SERVED,
        status: dict[str, Any] | None = None,
        exists: bool = True,
        crd: dict[str, Any] | DavyError | None = None,
    ) -> None:
        self._served = served
        self._service = {"metadata": {"name": "demo"}, "spec": {}, "status": status or {}}
        self._exists = exists
        self._crd = inference_service_crd() if crd is None else crd

    def serves(self, group: str, version: str, plural: str) -> bool:
        return plural in self._served

    def get(self, *_: object) -> dict[str, Any] | None:
        return self._service if self._exists else None

    def raw(self, path: str) -> dict[str, Any]:
        if isinstance(self._crd, DavyError):
            raise self._crd
        return self._crd


def router(**cluster: Any) -> KServeService:
    return kserve_router(
        StatedCluster(**cluster),  # type: ignore[arg-type]
        namespace="models",
        service="demo",
        rollout="r1",
        candidate=Candidate(version="v2", image="two"),
        clock=SystemClock(),
    )


@pytest.mark.parametrize(
    ("mode", "kind"), [("Standard", KServeStandard), ("Knative", KServeKnative)]
)
def test_the_router_is_that_of_the_mode(mode: str, kind: type) -> None:
    assert isinstance(router(status={"deploymentMode": mode}), kind)


def test_a_crd_that_may_not_be_read_is_no_hindrance() -> None:
    found = router(status={"deploymentMode": "Standard"}, crd=ConfigurationError("forbidden"))
    assert isinstance(found, KServeStandard)


def test_no_kserve() -> None:
    with pytest.raises(ConfigurationError, match="Install KServe"):
        router(served=set())


def test_no_such_service() -> None:
    with pytest.raises(NotFoundError):
        router(exists=False)


def test_not_reconciled_yet_may_pass() -> None:
    with pytest.raises(UnavailableError):
        router()


@pytest.mark.parametrize(
    "cluster",
    [
        pytest.param({"served": {"inferenceservices"}}, id="no Gateway API"),
        pytest.param({"crd": inference_service_crd(canary=False)}, id="no spec.canary"),
    ],
)
def test_what_standard_mode_needs_is_asked_before_it_begins(cluster: dict[str, Any]) -> None:
    with pytest.raises(RefusedError) as caught:
        router(status={"deploymentMode": "Standard"}, **cluster)
    assert caught.value.reason == UNSUPPORTED
    assert isinstance(router(status={"deploymentMode": "Knative"}, **cluster), KServeKnative)
