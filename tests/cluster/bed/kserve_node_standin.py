"""Standard mode of KServe's stand-in on a node: Deployments that run, Services, weighted routes.

Belongs here: what KServe's controller was seen to write, in the order in which it wrote it.
Not here: pods, endpoints and traffic. Those are Kubernetes' and the gateway's own here.

NOT KServe. An arm that leaves the spec loses its Service before the route is written without it, as
it was seen: whoever takes one out that still has weight loses requests. Containers of one's own are
known, with `STORAGE_URI` on a claim; runtimes, transformers and autoscaling are not.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from kubernetes.client import ApiClient
from tests.cluster.bed.kserve_rules import STORAGE, storage_uri
from tests.cluster.bed.kserve_standard_standin import (
    CORE_SERVICES,
    DEPLOYMENTS,
    OWNER,
    canary_replicas,
    workload_name,
)
from tests.cluster.bed.kserve_standin import SERVICES, Key, Object
from tests.cluster.bed.node.addons import GATEWAY
from tests.cluster.bed.node.apply import apply

from davy.rollout.adapters.kubernetes_objects import KubernetesObjects

DOMAIN = "example.com"
MANAGER = "kserve-standin"
# Within a second, as it was seen; what is deleted meanwhile is still in the routes.
ROUTE_SECONDS = 0.3
MODELS = "/mnt/models"
VOLUME = "kserve-pvc-source"


class StandardOnNode:
    """Does what KServe does in Standard mode, for pods that run.

    ``route`` is how long the routes lag behind the Services, in seconds.
    """

    def __init__(self, api: ApiClient, route: float = ROUTE_SECONDS) -> None:
        self._api = api
        self._objects = KubernetesObjects(api, field_manager=MANAGER)
        # What was written last, so that nothing is written again.
        self._written: dict[tuple[str, str, str], str] = {}
        self._status: dict[str, Object] = {}
        self._route_lag = route
        # Until when the routes of an InferenceService stay as they are.
        self._routes_wait: dict[str, float] = {}

    def gone(self, key: Key) -> None:
        """Forget it: what it owned, Kubernetes collects."""
        self._written = {at: text for at, text in self._written.items() if at[0] != key[0]}

    def reconcile(self, service: Object, now: float) -> None:
        metadata = service["metadata"]
        if metadata.get("deletionTimestamp"):
            return
        namespace, name = metadata["namespace"], metadata["name"]
        predictor = service["spec"]["predictor"]
        stable = workload_name(name, predictor)
        canaries = {
            workload_name(name, item["predictor"]): item
            for item in service["spec"].get("canary") or ()
        }
        found = {
            item["metadata"]["name"]: item
            for item in self._objects.select(DEPLOYMENTS, namespace, f"{OWNER}={name}")
        }
        ready = {workload for workload, item in found.items() if _is_ready(item)}
        taken = 0
        for workload, item in canaries.items():
            arm = {**predictor, **item["predictor"]}
            replicas = canary_replicas(service, item)
            taken += replicas if workload in ready else 0
            self._workload(service, workload, arm, replicas)
        for workload in set(found) - {stable, *canaries}:
            self._remove(namespace, workload)
            self._routes_wait[metadata["uid"]] = now + self._route_lag
        least = predictor.get("minReplicas", 1)
        self._workload(service, stable, predictor, max(least - taken, 1) if taken else least)
        routed = stable in ready or (namespace, "HTTPRoute", name) in self._written
        if routed and now >= self._routes_wait.get(metadata["uid"], 0.0):
            self._routes(service, stable, {n: i for n, i in canaries.items() if n in ready})
        self._tell(service, stable in ready, {n: (i, n in ready) for n, i in canaries.items()})

    def _workload(self, service: Object, name: str, predictor: Object, replicas: int) -> None:
        self._write(deployment(service, name, predictor, replicas))
        labels = {"app": name, OWNER: service["metadata"]["name"]}
        port = _container(predictor)["ports"][0]["containerPort"]
        ports = [{"name": "http", "port": 80, "targetPort": port}]
        self._write(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": _metadata(service, name, labels),
                "spec": {"clusterIP": "None", "selector": {"app": name}, "ports": ports},
            }
        )

    def _routes(self, service: Object, stable: str, canaries: Mapping[str, Object]) -> None:
        weights = {name: int(item["trafficPercent"]) for name, item in canaries.items()}
        weights = {name: percent for name, percent in weights.items() if percent}
        weights = {stable: 100 - sum(weights.values()), **weights}
        name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
        told = [
            {"name": "KServe-Isvc-Name", "value": name},
            {"name": "KServe-Isvc-Namespace", "value": namespace},
        ]
        rule = {
            "backendRefs": [
                {"name": workload, "port": 80, "weight": weight}
                for workload, weight in weights.items()
            ],
            "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": told}}],
            "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
            "timeouts": {"request": "60s"},
        }
        for route in (name, f"{name}-predictor"):
            self._write(
                {
                    "apiVersion": "gateway.networking.k8s.io/v1",
                    "kind": "HTTPRoute",
                    "metadata": _metadata(service, route, {OWNER: name}),
                    "spec": {
                        "hostnames": [f"{route}-{namespace}.{DOMAIN}"],
                        "parentRefs": [{"namespace": GATEWAY[0], "name": GATEWAY[1]}],
                        "rules": [rule],
                    },
                }
            )

    def _remove(self, namespace: str, workload: str) -> None:
        self._objects.delete(CORE_SERVICES, namespace, workload)
        self._objects.delete(DEPLOYMENTS, namespace, workload)
        for kind in ("Service", "Deployment"):
            self._written.pop((namespace, kind, workload), None)

    def _tell(self, service: Object, up: bool, canaries: Mapping[str, tuple[Object, bool]]) -> None:
        metadata = service["metadata"]
        kinds = ("PredictorReady", "IngressReady", "Ready")
        conditions = [{"type": kind, "status": "True" if up else "False"} for kind in kinds]
        if canaries:
            all_ready = all(ready for _, ready in canaries.values())
            state = "True" if all_ready else "False"
            conditions.append({"type": "CanaryPredictorReady", "status": state})
        status = {
            # The Deployment's, not the InferenceService's: it stays where it was.
            "observedGeneration": 1,
            "deploymentMode": "Standard",
            "url": f"http://{host(metadata['namespace'], metadata['name'])}",
            "conditions": conditions,
            "canaryStatuses": [
                {
                    "name": item["predictor"]["name"],
                    "ready": ready,
                    "trafficPercent": item["trafficPercent"],
                }
                for item, ready in canaries.values()
            ],
        }
        if self._status.get(metadata["uid"]) != status:
            place = f"{metadata['name']}/status"
            body = {"status": status}
            self._objects.merge_patch(SERVICES, metadata["namespace"], place, body)
            self._status[metadata["uid"]] = status

    def _write(self, document: Object) -> None:
        metadata = document["metadata"]
        at = metadata["namespace"], document["kind"], metadata["name"]
        digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
        if self._written.get(at) != digest:
            apply(self._api, document, MANAGER)
            self._written[at] = digest


def host(namespace: str, service: str) -> str:
    """Return the host name of an InferenceService."""
    return f"{service}-{namespace}.{DOMAIN}"


def deployment(service: Object, name: str, predictor: Object, replicas: int) -> Object:
    """Return an arm's Deployment: the predictor's pod, and its package mounted read-only."""
    pod = {
        key: copy.deepcopy(value)
        for key, value in predictor.items()
        if key in {"securityContext", "serviceAccountName", "terminationGracePeriodSeconds",
                   "volumes", "imagePullSecrets"}
    }  # fmt: skip
    container = copy.deepcopy(dict(_container(predictor)))
    container.setdefault("name", "kserve-container")
    container.setdefault(
        "readinessProbe", {"tcpSocket": {"port": container["ports"][0]["containerPort"]}}
    )
    uri = storage_uri(predictor)
    if uri:
        kind, _, place = uri.partition("://")
        if kind != "pvc":
            raise ValueError(f"{uri}: this stand-in mounts claims alone")
        claim, _, path = place.partition("/")
        mount = {"name": VOLUME, "mountPath": MODELS, "subPath": path, "readOnly": True}
        container["volumeMounts"] = [*container.get("volumeMounts", ()), mount]
        source = {"claimName": claim, "readOnly": True}
        volume = {"name": VOLUME, "persistentVolumeClaim": source}
        pod["volumes"] = [*pod.get("volumes", ()), volume]
        for variable in container["env"]:
            if variable["name"] == STORAGE:
                variable["value"] = MODELS
    labels = {"app": name, OWNER: service["metadata"]["name"]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(service, name, labels),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {
                    "labels": {**(predictor.get("labels") or {}), **labels},
                    "annotations": dict(predictor.get("annotations") or {}),
                },
                "spec": {**pod, "containers": [container]},
            },
        },
    }


def _container(predictor: Object) -> Object:
    containers = predictor.get("containers") or ()
    if len(containers) != 1:
        raise ValueError("this stand-in knows predictors of one container alone")
    first: Object = containers[0]
    return first


def _metadata(service: Object, name: str, labels: Mapping[str, str]) -> dict[str, Any]:
    owner = service["metadata"]
    return {
        "name": name,
        "namespace": owner["namespace"],
        "labels": dict(labels),
        "ownerReferences": [
            {
                "apiVersion": "serving.kserve.io/v1beta1",
                "kind": "InferenceService",
                "name": owner["name"],
                "uid": owner["uid"],
                "controller": True,
            }
        ],
    }


def _is_ready(found: Object) -> bool:
    status = found.get("status") or {}
    current = status.get("observedGeneration") == found["metadata"]["generation"]
    return bool(current and status.get("availableReplicas"))
