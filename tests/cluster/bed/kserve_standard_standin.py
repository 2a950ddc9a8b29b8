"""Standard mode of the stand-in: Deployments, Services, weighted routes, and the order of deletion.

Belongs here: what KServe, Kubernetes' controllers and a gateway were seen to do together.

The order that loses requests is kept: an arm that leaves the spec loses its Service first, the
route is written after that, and the gateway serves by it later still.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.cluster.bed.kserve_knative_standin import NEVER_READY
from tests.cluster.bed.kserve_rules import storage_uri
from tests.cluster.bed.kserve_standin import SERVICES, Delays, Key, Object, Observed

from davy.rollout.adapters.kubernetes_objects import KubernetesObjects, Resource

CORE_SERVICES = Resource("", "v1", "services")
DEPLOYMENTS = Resource("apps", "v1", "deployments")
SLICES = Resource("discovery.k8s.io", "v1", "endpointslices")
ROUTES = Resource("gateway.networking.k8s.io", "v1", "httproutes")
OWNER = "serving.kserve.io/inferenceservice"


@dataclass(slots=True)
class _Arm:
    """A Deployment with its Service; ``replicas_at`` says when so many pods serve."""

    storage: str
    template: str
    replicas: int
    ready: int = 0
    ready_at: float = 0.0


@dataclass(slots=True)
class _State:
    uid: str
    arms: dict[str, _Arm] = field(default_factory=dict)
    # What the route should say, what it says, what the gateway serves by.
    wanted: dict[str, int] = field(default_factory=dict)
    wanted_since: float = 0.0
    written: dict[str, int] = field(default_factory=dict)
    written_at: float = 0.0
    served: dict[str, int] = field(default_factory=dict)
    accepted: bool = True
    status: Object = field(default_factory=dict)


class StandardStandin:
    """Does what KServe does in Standard mode."""

    def __init__(self, objects: KubernetesObjects, observed: Observed, delays: Delays) -> None:
        self._objects = objects
        self._observed = observed
        self._delays = delays
        self._states: dict[Key, _State] = {}

    def gone(self, key: Key) -> None:
        state = self._states.pop(key, None)
        for name in state.arms if state else ():
            self._delete(key[0], name)
        for name in (key[1], f"{key[1]}-predictor"):
            self._objects.delete(ROUTES, key[0], name)

    def reconcile(self, service: Object, now: float) -> None:
        metadata = service["metadata"]
        key = metadata["namespace"], metadata["name"]
        state = self._states.get(key)
        if state is None or state.uid != metadata["uid"]:
            self.gone(key)
            state = self._states[key] = _State(metadata["uid"])
        self._pods(key, state, now)
        stable, canaries = self._arms(service, state)
        expected = {stable, *canaries}
        # First the canaries, then what is not wanted any more, then the stable arm, then the route.
        for name, item in canaries.items():
            arm = {**service["spec"]["predictor"], **item["predictor"]}
            self._ensure(key, state, name, arm, canary_replicas(service, item), now)
        for name in set(state.arms) - expected:
            self._remove(key, state, name)
        self._ensure(
            key, state, stable, service["spec"]["predictor"], self._least(service, state), now
        )
        self._route(key, state, stable, canaries, now)
        self._gateway(key, state, now)
        self._status(service, state, stable, canaries)

    def _arms(self, service: Object, state: _State) -> tuple[str, dict[str, Object]]:
        name = service["metadata"]["name"]
        canaries = {
            workload_name(name, item["predictor"]): item
            for item in service["spec"].get("canary") or ()
        }
        return workload_name(name, service["spec"]["predictor"]), canaries

    def _least(self, service: Object, state: _State) -> int:
        """The stable arm's pods: KServe takes those of ready canaries from its least number."""
        predictor, name = service["spec"]["predictor"], service["metadata"]["name"]
        if predictor.get("minReplicas") is None:
            return 1
        taken = sum(
            canary_replicas(service, item)
            for item in service["spec"].get("canary") or ()
            if (arm := state.arms.get(workload_name(name, item["predictor"]))) and arm.ready
        )
        return max(predictor["minReplicas"] - taken, 1) if taken else predictor["minReplicas"]

    def _ensure(
        self, key: Key, state: _State, name: str, predictor: Object, replicas: int, now: float
    ) -> None:
        storage, template = storage_uri(predictor), _template(predictor)
        arm = state.arms.get(name)
        if arm is None:
            arm = state.arms[name] = _Arm(storage, template, replicas, 0, self._later(storage, now))
            self._create(key, name, replicas)
            return
        if template != arm.template:
            self._observed.restarts.append((key[0], name))
            arm.template, arm.storage = template, storage
            arm.ready_at = self._later(storage, now)
        if replicas != arm.replicas:
            if replicas < arm.ready:
                arm.ready = replicas
                self._show(key, name, arm)
            arm.replicas, arm.ready_at = replicas, self._later(storage, now)
            self._objects.merge_patch(DEPLOYMENTS, key[0], name, {"spec": {"replicas": replicas}})

    def _later(self, storage: str, now: float) -> float:
        return math.inf if NEVER_READY in storage else now + self._delays.pod_ready

    def _pods(self, key: Key, state: _State, now: float) -> None:
        for name, arm in state.arms.items():
            if arm.ready != arm.replicas and arm.ready_at <= now:
                arm.ready = arm.replicas
                self._show(key, name, arm)

    def _route(
        self, key: Key, state: _State, stable: str, canaries: Mapping[str, Object], now: float
    ) -> None:
        if not state.arms[stable].ready and not state.written:
            return  # created only once the predictor is available
        ready = {name: item for name, item in canaries.items() if state.arms[name].ready}
        wanted = {name: int(item["trafficPercent"]) for name, item in ready.items()}
        wanted = {name: percent for name, percent in wanted.items() if percent}
        wanted = {stable: 100 - sum(wanted.values()), **wanted}
        if wanted != state.wanted:
            state.wanted, state.wanted_since = wanted, now
        if wanted == state.written or now < state.wanted_since + self._delays.route:
            return
        backends = [{"name": name, "port": 80, "weight": weight} for name, weight in wanted.items()]
        for name in (key[1], f"{key[1]}-predictor"):
            body = {"spec": {"rules": [{"backendRefs": backends}]}}
            if state.written:
                self._objects.merge_patch(ROUTES, key[0], name, body)
            else:
                kind = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute"}
                self._objects.create(ROUTES, key[0], {**kind, "metadata": {"name": name}, **body})
        state.written, state.written_at, state.accepted = wanted, now, False

    def _gateway(self, key: Key, state: _State, now: float) -> None:
        if state.accepted or now < state.written_at + self._delays.gateway:
            return
        state.served, state.accepted = dict(state.written), True
        for name in (key[1], f"{key[1]}-predictor"):
            route = self._objects.get(ROUTES, key[0], name)
            if route is None:
                continue
            generation = route["metadata"]["generation"]
            conditions = [
                {"type": kind, "status": "True", "observedGeneration": generation}
                for kind in ("Accepted", "ResolvedRefs")
            ]
            parents = [{"parentRef": {"name": "gateway-standin"}, "conditions": conditions}]
            status = {"status": {"parents": parents}}
            self._objects.merge_patch(ROUTES, key[0], f"{name}/status", status)
        split: dict[str, int] = {}
        for name, weight in state.served.items():
            arm = state.arms.get(name)
            if weight and (arm is None or not arm.ready):
                self._observed.lose(key[0], f"{name} has weight {weight} and no pod")
            if arm is not None:
                split[arm.storage] = split.get(arm.storage, 0) + weight
        self._observed.share(key[0], split)

    def _remove(self, key: Key, state: _State, name: str) -> None:
        weight = state.served.get(name, 0)
        if weight:
            self._observed.lose(key[0], f"{name} is deleted with weight {weight}")
        del state.arms[name]
        self._delete(key[0], name)

    def _status(
        self, service: Object, state: _State, stable: str, canaries: Mapping[str, Object]
    ) -> None:
        up = bool(state.arms[stable].ready)
        conditions = [
            {"type": kind, "status": "True" if up else "False"}
            for kind in ("PredictorReady", "IngressReady", "Ready")
        ]
        status: dict[str, Any] = {
            # The Deployment's, not the InferenceService's: it stays where it was.
            "observedGeneration": 1,
            "deploymentMode": "Standard",
            "conditions": conditions,
            "canaryStatuses": [
                {
                    "name": item["predictor"]["name"],
                    "ready": bool(state.arms[name].ready),
                    "trafficPercent": item["trafficPercent"],
                }
                for name, item in canaries.items()
            ],
        }
        if status != state.status:
            state.status = status
            metadata = service["metadata"]
            place = f"{metadata['name']}/status"
            self._objects.merge_patch(SERVICES, metadata["namespace"], place, {"status": status})

    def _create(self, key: Key, name: str, replicas: int) -> None:
        labels = {"app": name, OWNER: key[1]}
        pod = {"containers": [{"name": "kserve-container", "image": "none"}]}
        deployment = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "labels": labels},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        }
        ports = [{"name": "http", "port": 80, "targetPort": 8080}]
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "labels": labels},
            # Headless, as KServe makes them: nothing here watches over addresses of Services.
            "spec": {"clusterIP": "None", "selector": {"app": name}, "ports": ports},
        }
        piece = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "endpoints": [],
            "ports": [{"name": "http", "port": 8080}],
        }
        self._objects.create(DEPLOYMENTS, key[0], deployment)
        self._objects.create(CORE_SERVICES, key[0], service)
        self._objects.create(SLICES, key[0], piece)

    def _show(self, key: Key, name: str, arm: _Arm) -> None:
        count = {"replicas": arm.ready, "availableReplicas": arm.ready, "readyReplicas": arm.ready}
        self._objects.merge_patch(DEPLOYMENTS, key[0], f"{name}/status", {"status": count})
        endpoints = [
            {"addresses": [f"10.1.0.{number + 1}"], "conditions": {"ready": True}}
            for number in range(arm.ready)
        ]
        self._objects.merge_patch(SLICES, key[0], name, {"endpoints": endpoints})

    def _delete(self, namespace: str, name: str) -> None:
        for resource in (DEPLOYMENTS, CORE_SERVICES, SLICES):
            self._objects.delete(resource, namespace, name)


def workload_name(service: str, predictor: Mapping[str, Any]) -> str:
    """Return the name of an arm's Deployment and Service."""
    name = predictor.get("name")
    return f"{service}-{name}-predictor" if name else f"{service}-predictor"


def _template(predictor: Mapping[str, Any]) -> str:
    left_out = ("name", "minReplicas", "maxReplicas", "canaryTrafficPercent")
    return repr(sorted((k, repr(v)) for k, v in predictor.items() if k not in left_out))


def canary_replicas(service: Object, item: Object) -> int:
    """A canary's pods: none at weight 0, unless it says how many."""
    if item["predictor"].get("minReplicas") is not None:
        return int(item["predictor"]["minReplicas"])
    least = service["spec"]["predictor"].get("minReplicas", 1)
    return math.ceil(least * item["trafficPercent"] / 100)
