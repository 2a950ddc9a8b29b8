"""An operator that leads no more writes nothing; one that does not know it yet undoes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from kubernetes.client import ApiClient
from prometheus_client import CollectorRegistry
from tests.fixtures.operator_cluster import START, OperatorBed, drive

from davy.core.clock import ManualClock
from davy.core.errors import TemporaryError
from davy.rollout.adapters.kube_writes import KubernetesWrites
from davy.rollout.adapters.kubernetes_objects import NotLeadingError, Resource
from davy.rollout.operator.serve import parts
from davy.rollout.operator.settings import OperatorSettings

THINGS = Resource("", "v1", "configmaps")
BODY = {"metadata": {"name": "a"}}
WRITES: dict[str, Callable[[KubernetesWrites], Any]] = {
    "create": lambda objects: objects.create(THINGS, "shop", BODY),
    "replace": lambda objects: objects.replace(THINGS, "shop", BODY),
    "merge_patch": lambda objects: objects.merge_patch(THINGS, "shop", "a", {}),
    "delete": lambda objects: objects.delete(THINGS, "shop", "a"),
    "deleted": lambda objects: objects.deleted(THINGS, "shop", "a", uid="u"),
    "apply_status": lambda objects: objects.apply_status(THINGS, "shop", "a", {}),
}


class ApiClientThatCounts(ApiClient):
    """Stands for the official client: answers everything, and keeps what was sent."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def call_api(self, path: str, method: str, **_: Any) -> dict[str, Any]:
        self.sent.append(method)
        return {"metadata": {"name": "a", "resourceVersion": "1"}, "items": []}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_every_write_asks_first_and_no_read_does(write: Callable[[KubernetesWrites], Any]) -> None:
    api, leads = ApiClientThatCounts(), [True]
    objects = KubernetesWrites(api, may_write=lambda: leads[-1])
    write(objects)
    assert len(api.sent) == 1
    leads.append(False)
    with pytest.raises(NotLeadingError, match="nothing was written"):
        write(objects)
    assert len(api.sent) == 1
    objects.get(THINGS, "shop", "a")
    objects.select(THINGS, "shop")
    assert api.sent[1:] == ["GET", "GET"]


def test_the_operators_writes_are_those_of_a_leader_and_its_lease_is_not() -> None:
    api, clock = ApiClientThatCounts(), ManualClock(START)
    election, reconciler = parts(api, OperatorSettings(), clock, CollectorRegistry())
    bed = OperatorBed()
    resource = bed.apply()
    assert not election.leading
    for write in (
        lambda: reconciler.pods._objects.deleted(THINGS, "shop", "a", uid="u"),  # type: ignore[attr-defined]
        lambda: reconciler.places._objects.delete(THINGS, "shop", "a"),  # type: ignore[attr-defined]
        lambda: reconciler.rollouts._objects.delete(THINGS, "shop", "a"),  # type: ignore[attr-defined]
        lambda: reconciler.records._objects.delete(THINGS, "shop", "a"),  # type: ignore[attr-defined]
        lambda: reconciler.records.journal(resource, 1).check(),
    ):
        with pytest.raises(TemporaryError):
            write()
    assert set(api.sent) <= {"GET"}
    assert election.step()
    reconciler.pods._objects.deleted(THINGS, "shop", "a", uid="u")  # type: ignore[attr-defined]
    assert "DELETE" in api.sent
    clock.sleep(10.0)
    with pytest.raises(NotLeadingError):
        reconciler.pods._objects.deleted(THINGS, "shop", "a", uid="u")  # type: ignore[attr-defined]


def test_one_that_was_stopped_for_a_while_does_not_ask_for_the_weight_of_then() -> None:
    bed = OperatorBed()
    bed.apply()
    stopped = bed.operator()
    while not bed.cluster.weight:
        pause = stopped.tick("shop", "next-basket", "uid-0")
        bed.clock.sleep(pause or 0.0)
    other = bed.operator()
    while bed.cluster.weight == 5:
        bed.clock.sleep(other.tick("shop", "next-basket", "uid-0") or 0.0)
    assert bed.cluster.weight == 50
    asked = list(bed.cluster.asked)
    assert stopped.tick("shop", "next-basket", "uid-0") == 5.0
    assert bed.cluster.asked == asked
    drive(bed)
    assert bed.of().phase == "Promoted"
