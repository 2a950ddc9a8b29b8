"""ModelRollouts as people see and change them: standing from a status, orders as annotations."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from davy.core.errors import ConflictError, InvalidInputError, NotFoundError
from davy.rollout.adapters.annotation_orders import ORDERS, AnnotationOrders
from davy.rollout.adapters.cluster_rollouts import ClusterRollouts, standing_of_resource
from davy.rollout.adapters.kube_writes import KubernetesWrites
from davy.rollout.adapters.kubernetes_objects import Resource, StaleError
from davy.rollout.orders import order
from davy.rollout.spec import Rollout

NOW = datetime(2017, 1, 2, tzinfo=UTC)
SPEC: dict[str, Any] = {
    "inferenceServiceRef": {"name": "next-basket"},
    "candidate": {"version": "v2"},
    "steps": [{"weight": 5}, {"weight": 50}],
    "analysis": {"indicators": [{"name": "errors", "ratio": 1.5, "allowance": 0.01}]},
}
STATUS: dict[str, Any] = {
    "phase": "Progressing",
    "step": 1,
    "looks": 12,
    "lastLookTime": "2017-01-02T00:06:00Z",
    "weights": {"stable": 95, "canary": 5},
    "versions": {"stable": "v1", "canary": "v2"},
    "verdicts": [
        {"indicator": "errors", "outcome": "inconclusive", "ratioLower": 0.0, "rateLower": 0.0,
         "rateUpper": 0.02, "reason": "not yet"}
    ],
    "evidence": [
        {"indicator": "errors", "stableRequests": 3800, "stableEvents": 1,
         "canaryRequests": 200, "canaryEvents": 0}
    ],
    "conditions": [
        {"type": "Progressing", "status": "True", "reason": "Inconclusive", "message": "errors: …",
         "lastTransitionTime": "2017-01-02T00:00:30Z", "observedGeneration": 1}
    ],
}  # fmt: skip


class StandInApiServer:
    """Keeps objects and their versions; ``busy`` counts writes that somebody else is before."""

    def __init__(self, *found: dict[str, Any]) -> None:
        self.found = {item["metadata"]["name"]: item for item in found}
        self.busy = 0

    def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
        return self.found.get(name)

    def select(self, resource: Resource, namespace: str) -> tuple[dict[str, Any], ...]:
        return tuple(self.found.values())

    def create(self, resource: Resource, namespace: str, body: Mapping[str, Any]) -> None:
        name = body["metadata"]["name"]
        if name in self.found:
            raise StaleError("already exists")
        self.found[name] = dict(body)

    def merge_patch(
        self, resource: Resource, namespace: str, name: str, body: Mapping[str, Any]
    ) -> None:
        metadata = self.found[name]["metadata"]
        if self.busy:
            self.busy -= 1
            metadata["resourceVersion"] += "1"
        if body["metadata"]["resourceVersion"] != metadata["resourceVersion"]:
            raise StaleError("the object has been modified")
        metadata["annotations"] = {
            **(metadata.get("annotations") or {}),
            **body["metadata"]["annotations"],
        }
        metadata["resourceVersion"] += "2"


def resource(name: str = "next-basket", **more: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "namespace": "shop", "resourceVersion": "1"}
    return {"metadata": metadata, "spec": SPEC, **more}


def made() -> dict[str, Any]:
    """A resource with what the API server gives it."""
    found = resource()
    found["metadata"] |= {"uid": "uid-1", "generation": 4}
    return found


def rollouts(server: StandInApiServer) -> ClusterRollouts:
    return ClusterRollouts(cast("KubernetesWrites", server), "shop")


def test_a_status_is_shown_as_far_as_it_tells() -> None:
    found = rollouts(StandInApiServer(resource(status=STATUS))).standing("next-basket")
    assert (found.phase, found.reason) == ("Progressing", "Inconclusive")
    assert (found.stable, found.canary) == ("v1", "v2")
    assert (found.weight, found.weight_read, found.step, found.steps) == (5, 5, 1, (5, 50))
    (errors,) = found.indicators
    assert (errors.outcome, errors.requests, errors.events) == ("inconclusive", 200, 0)
    assert (errors.tolerable_ratio, errors.allowance) == (1.5, 0.01)
    assert not found.ended


def test_a_resource_that_no_operator_has_looked_at_says_so() -> None:
    found = standing_of_resource(resource())
    assert (found.phase, found.reason, found.weight) == ("Pending", "NotBegun", 0)
    assert "operator has not looked" in found.message


def test_names_are_sorted_and_an_unknown_one_names_them() -> None:
    server = StandInApiServer(resource("b"), resource("a"))
    assert rollouts(server).names() == ["a", "b"]
    with pytest.raises(NotFoundError, match=r"no such rollout \(there: a, b\)"):
        rollouts(server).standing("c")


@pytest.mark.parametrize("busy", [0, 1, 4])
def test_an_order_is_added_to_those_there_whoever_else_writes(busy: int) -> None:
    server = StandInApiServer(made())
    server.busy = busy
    for kind in ("pause", "resume"):
        asked = order(kind, by="on call", because="why", time=NOW)  # type: ignore[arg-type]
        rollouts(server).order("next-basket", asked)
    annotations = server.found["next-basket"]["metadata"]["annotations"]
    kept = AnnotationOrders(annotations, "uid-1").read()
    assert [item.kind for item in kept] == ["pause", "resume"]
    assert {(item.uid, item.candidate, item.generation) for item in kept} == {("uid-1", "v2", 4)}


def test_an_order_that_somebody_is_always_before_gives_up() -> None:
    server = StandInApiServer(made())
    server.busy = 99
    asked = order("pause", by="on call", because="why", time=NOW)
    with pytest.raises(StaleError):
        rollouts(server).order("next-basket", asked)


def test_nothing_is_added_to_orders_that_cannot_be_read() -> None:
    damaged = made()
    damaged["metadata"]["annotations"] = {ORDERS: "{}\n"}
    asked = order("pause", by="on call", because="why", time=NOW)
    with pytest.raises(InvalidInputError, match="line 1 is no order"):
        rollouts(StandInApiServer(damaged)).order("next-basket", asked)


def test_start_makes_the_resource_once(tmp_path: Path) -> None:
    server = StandInApiServer()
    document = {
        "apiVersion": "davylamp.dev/v1alpha1",
        "kind": "ModelRollout",
        "metadata": {"name": "next-basket"},
        "spec": SPEC,
    }
    wanted = Rollout.model_validate(document)
    rollouts(server).start(wanted)
    found = server.found["next-basket"]
    assert found["metadata"] == {"name": "next-basket", "namespace": "shop"}
    assert Rollout.model_validate(found | {"metadata": {"name": "x"}}).spec == wanted.spec
    with pytest.raises(ConflictError, match="is there already"):
        rollouts(server).start(wanted)
