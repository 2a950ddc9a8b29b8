"""What the tests on a node share: models that serve there, clients, rollouts.

Belongs here: making and watching them. Not here: the node (`tests.cluster.bed.node`), Davy's own
programs on it (`installed`).
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from kubernetes import client
from tests.cluster.bed.kserve_node_standin import host
from tests.cluster.bed.node.apply import apply
from tests.cluster.bed.node.node import Node
from tests.cluster.bed.services import eventually
from tests.fixtures.load_client import LoadClient, Told
from tests.fixtures.tiny_package import NAME, write_tiny_package

from davy.packaging.package import Package
from davy.rollout.adapters.configmap_chunks import ConfigMapRecords
from davy.rollout.adapters.kube_rollouts import ROLLOUTS, read_resource
from davy.rollout.adapters.kube_writes import KubernetesWrites
from davy.rollout.crd import GROUP, PLURAL, VERSION
from davy.rollout.record import Record
from davy.rollout.status import ModelRolloutStatus

PORT = 8080
# A pod answers for so long after it was told to end: longer than the gateway needs to drop it.
DRAIN_SECONDS = 6
GRACE_SECONDS = 30
RATE = 100.0
LONGEST_SECONDS = 420.0
PATIENCE = 180.0

REQUEST = json.dumps(
    {
        "inputs": [
            {"name": "kind", "datatype": "INT64", "shape": [1], "data": [0]},
            {"name": "amount", "datatype": "FP32", "shape": [1], "data": [10.0]},
            {"name": "visits", "datatype": "FP32", "shape": [1], "data": [3.0]},
            {"name": "channel", "datatype": "INT64", "shape": [1], "data": [1]},
        ]
    }
).encode()


@dataclass
class Load:
    """A client that asks through the gateway, in a thread of its own."""

    client: LoadClient
    rate: float
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        def run() -> None:
            asked = self.client.paced(self.rate, self._stop.is_set, LONGEST_SECONDS)
            asyncio.run(asked)

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def stop(self) -> list[Told]:
        """Stop asking, wait for what was asked, and return every answer."""
        self._stop.set()
        assert self._thread is not None
        self._thread.join(90)
        assert not self._thread.is_alive()
        return self.client.answers


def failed(answers: list[Told]) -> Counter[int]:
    """Return how many of each status were no answer; 0 is a connection that broke."""
    return Counter(told.status for told in answers if told.status != 200)


def by_version(answers: list[Told]) -> Counter[str]:
    return Counter(told.version for told in answers)


@dataclass
class Served:
    """An InferenceService of its own namespace, which admits only restricted pods."""

    cluster: Cluster
    namespace: str
    stable: Package
    name: str = NAME

    @property
    def host(self) -> str:
        return host(self.namespace, self.name)

    def uri(self, package: Package) -> str:
        return f"pvc://models/{NAME}/{package.contract.version}"

    def create(self, *, replicas: int = 1, **environment: str) -> None:
        """Make one that serves the stable package, and wait until the gateway answers for it."""
        self.cluster.claim(self.namespace, "models", self.cluster.folder / "store")
        body = {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "annotations": {
                    "serving.kserve.io/deploymentMode": "Standard",
                    "serving.kserve.io/autoscalerClass": "none",
                },
            },
            "spec": {"predictor": self._predictor(replicas, environment)},
        }
        apply(self.cluster.api, body)
        eventually("the InferenceService is ready", self.is_ready, PATIENCE)
        eventually("the gateway answers for it", lambda: self.ask().status == 200, PATIENCE)

    def edit(self, spec: dict[str, Any]) -> None:
        """Change its spec as a person would."""
        client.CustomObjectsApi(self.cluster.api).patch_namespaced_custom_object(
            "serving.kserve.io", "v1beta1", self.namespace, "inferenceservices", self.name,
            {"spec": spec},
        )  # fmt: skip

    def read(self) -> dict[str, Any]:
        found: dict[str, Any] = client.CustomObjectsApi(
            self.cluster.api
        ).get_namespaced_custom_object(
            "serving.kserve.io", "v1beta1", self.namespace, "inferenceservices", self.name
        )
        return found

    def is_ready(self) -> bool:
        conditions = (self.read().get("status") or {}).get("conditions") or ()
        return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)

    def pods(self) -> list[client.V1Pod]:
        found: list[client.V1Pod] = (
            client.CoreV1Api(self.cluster.api).list_namespaced_pod(self.namespace).items
        )
        return found

    def canary(self, package: Package, percent: int) -> dict[str, Any]:
        """Return the canary of a package as a person would write it."""
        predictor = self.read()["spec"]["predictor"]
        container = dict(predictor["containers"][0])
        container["env"] = [
            {**item, "value": self.uri(package)} if item["name"] == "STORAGE_URI" else item
            for item in container["env"]
        ]
        arm = {key: value for key, value in predictor.items() if key != "minReplicas"}
        return {
            "trafficPercent": percent,
            "predictor": {**arm, "name": "other", "containers": [container], "minReplicas": 1},
        }

    def load(self, rate: float = RATE) -> Load:
        settings = self.cluster.node.settings
        return Load(LoadClient(80, REQUEST, address=str(settings.node), host=self.host), rate)

    def ask(self) -> Told:
        return self.ask_many(1)[0]

    def ask_many(self, requests: int) -> list[Told]:
        """Ask one after the other."""
        load = self.load().client

        async def run() -> None:
            for _ in range(requests):
                await load.ask()
            load.close()

        asyncio.run(run())
        return load.answers

    def rollout(self, candidate: Package, **changes: Any) -> None:
        """Make a ModelRollout of a candidate."""
        spec = {
            "inferenceServiceRef": {"name": self.name},
            "candidate": {
                "version": candidate.contract.version,
                "packageURI": self.uri(candidate),
            },
            "steps": [{"weight": 10, "minRequests": 50}, {"weight": 50, "minRequests": 100}],
            "analysis": {
                "interval": "2s",
                "deadline": "10m",
                "vetoes": [],
                "indicators": [
                    {"name": "errors", "allowance": 0.05},
                    {"name": "contract", "allowance": 0.05},
                ],
            },
        }
        document = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "ModelRollout",
            "metadata": {"name": "take-over"},
            "spec": {**spec, **changes},
        }
        client.CustomObjectsApi(self.cluster.api).create_namespaced_custom_object(
            GROUP, VERSION, self.namespace, PLURAL, document
        )

    def status(self) -> ModelRolloutStatus:
        found = KubernetesWrites(self.cluster.api).get(ROLLOUTS, self.namespace, "take-over")
        assert found is not None
        return read_resource(found).status

    def weight(self) -> int:
        weights = self.status().weights
        return weights.canary if weights else 0

    def record(self) -> Record:
        objects = KubernetesWrites(self.cluster.api)
        found = objects.get(ROLLOUTS, self.namespace, "take-over")
        assert found is not None
        records = ConfigMapRecords(objects, may_write=lambda: False)
        record = records.journal(read_resource(found), 1).read()
        assert record is not None
        return record

    def ended(self, seconds: float = 360.0) -> str:
        """Wait until the rollout has ended and return how."""
        ends = {"Promoted", "RolledBack", "Failed"}
        until = time.monotonic() + seconds
        while (phase := self.status().phase) not in ends:
            assert time.monotonic() < until, self.status()
            time.sleep(0.5)
        return phase

    def _predictor(self, replicas: int, environment: dict[str, str]) -> dict[str, Any]:
        variables = {
            "STORAGE_URI": self.uri(self.stable),
            "DAVY_PREDICTOR_DRAIN_SECONDS": str(DRAIN_SECONDS),
            # The machine may be busy with more than these pods.
            "DAVY_PREDICTOR_MAX_WAIT_SECONDS": "30",
            **environment,
        }
        probe = {
            "httpGet": {"path": "/v2/health/ready", "port": PORT},
            "periodSeconds": 1,
            # The machine may be busy with more than this: a pod that is slow is not unready.
            "timeoutSeconds": 10,
            "failureThreshold": 6,
        }
        container = {
            "name": "kserve-container",
            "image": self.cluster.images["predictor"],
            "imagePullPolicy": "Never",
            "args": ["--port", str(PORT), "--timeout-keep-alive", "120"],
            "ports": [{"containerPort": PORT, "protocol": "TCP"}],
            "env": [{"name": name, "value": value} for name, value in variables.items()],
            "securityContext": {
                "readOnlyRootFilesystem": True,
                "runAsNonRoot": True,
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            },
            "readinessProbe": probe,
            "resources": {
                "requests": {"cpu": "50m", "memory": "256Mi"},
                "limits": {"memory": "1Gi"},
            },
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 (in the pod)
        }
        return {
            "annotations": {
                "davylamp.dev/version": self.stable.contract.version,
                "prometheus.io/scrape": "true",
                "prometheus.io/port": str(PORT),
            },
            "containers": [container],
            "minReplicas": replicas,
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}],
        }


@dataclass
class Cluster:
    """The node with its API client, names of images that it holds, and a store of packages."""

    node: Node
    api: client.ApiClient
    images: Mapping[str, str]
    folder: Path
    _packages: dict[float, Package] = field(default_factory=dict)

    def package(self, weight: float) -> Package:
        """Return a tiny package; its scores of `REQUEST` keep the contract below 0.15."""
        if weight not in self._packages:
            score = {"name": "score", "datatype": "FP32", "range": {"low": 0.0, "high": 0.5}}
            self._packages[weight] = write_tiny_package(self.folder, weight=weight, outputs=[score])
        return self._packages[weight]

    def claim(self, namespace: str, name: str, place: Path, *, writable: bool = False) -> None:
        """Make a volume of a folder of this machine, which is the node's, too, and claim it."""
        modes = ["ReadWriteOnce" if writable else "ReadOnlyMany"]
        volume, size = f"{namespace}-{name}", {"storage": "4Gi"}
        both = {"storageClassName": "", "accessModes": modes}
        apply(
            self.api,
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": volume},
                "spec": {**both, "capacity": size, "hostPath": {"path": str(place)}},
            },
        )
        apply(
            self.api,
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {**both, "volumeName": volume, "resources": {"requests": size}},
            },
        )

    def remove_namespace(self, namespace: str) -> None:
        """Delete a namespace and its volumes, and wait until they have gone."""
        core = client.CoreV1Api(self.api)
        core.delete_namespace(namespace)

        def gone() -> bool:
            return namespace not in {item.metadata.name for item in core.list_namespace().items}

        eventually(f"{namespace} is gone", gone, PATIENCE)
        for volume in core.list_persistent_volume().items:
            if volume.metadata.name.startswith(f"{namespace}-"):
                core.delete_persistent_volume(volume.metadata.name)

    def new_namespace(self, prefix: str) -> str:
        name = f"{prefix}-{uuid.uuid4().hex[:6]}"
        levels = {
            f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")
        }
        apply(
            self.api,
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": levels}},
        )
        return name

    @contextmanager
    def served(self, stable: Package | None = None) -> Iterator[Served]:
        """A namespace for one InferenceService of a package; all of it goes at the end."""
        namespace = self.new_namespace("isvc")
        try:
            yield Served(self, namespace, stable or self.package(0.03))
        finally:
            objects = client.CustomObjectsApi(self.api)
            found = objects.list_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL)
            for item in found["items"]:
                # What is left of a failed test must not wait for the operator.
                objects.patch_namespaced_custom_object(
                    GROUP, VERSION, namespace, PLURAL, item["metadata"]["name"],
                    {"metadata": {"finalizers": None}},
                )  # fmt: skip
            self.remove_namespace(namespace)

    def prometheus(self, query: str) -> list[dict[str, Any]]:
        answer = httpx.get(
            f"{self.node.settings.prometheus_url}/api/v1/query",
            params={"query": query},
            trust_env=False,
        ).json()
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found
