"""Davy itself on the node: the objects of `k8s/base` with the images that the node holds.

Belongs here: installing them, finding their pods. Not here: models, rollouts (`cluster`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml
from kubernetes import client
from tests.cluster.bed.node.addons import SCRAPE_SECONDS
from tests.cluster.bed.node.apply import apply
from tests.cluster.bed.services import eventually
from tests.cluster.node.cluster import PATIENCE, Cluster

BASE = Path(__file__).parents[3] / "k8s/base"
NAMESPACE = "davy"
PORTS = {"operator": 8085, "detector": 8090}


@dataclass
class Davy:
    """Davy's pods on the node."""

    cluster: Cluster

    @property
    def detector_url(self) -> str:
        """The detector, as pods of any namespace reach it."""
        return f"http://davy-detector.{NAMESPACE}.svc.cluster.local:{PORTS['detector']}/"

    def pods(self, component: str) -> list[client.V1Pod]:
        """Return the pods of a component that are not about to go."""
        selector = f"app.kubernetes.io/component={component}"
        core = client.CoreV1Api(self.cluster.api)
        found = core.list_namespaced_pod(NAMESPACE, label_selector=selector).items
        return [pod for pod in found if pod.metadata.deletion_timestamp is None]

    def metrics(self, component: str, pod: client.V1Pod) -> str:
        """Return what a pod says on its metrics, nothing where it does not answer."""
        try:
            url = f"http://{pod.status.pod_ip}:{PORTS[component]}/metrics"
            return httpx.get(url, trust_env=False, timeout=5).text
        except httpx.HTTPError:
            return ""

    def leader(self) -> client.V1Pod | None:
        """Return the operator that acts."""
        for pod in self.pods("operator"):
            if "davy_operator_leading 1.0" in self.metrics("operator", pod):
                return pod
        return None

    def kill(self, pod: client.V1Pod) -> None:
        """End a pod without a warning to it."""
        client.CoreV1Api(self.cluster.api).delete_namespaced_pod(
            pod.metadata.name, NAMESPACE, grace_period_seconds=0
        )


@contextmanager
def installed_davy(cluster: Cluster, state: Path) -> Iterator[Davy]:
    """Install operator and detector until the block ends.

    ``state`` is the detector's folder.
    """
    levels = {"pod-security.kubernetes.io/enforce": "restricted"}
    metadata = {"name": NAMESPACE, "labels": levels}
    apply(cluster.api, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    store = cluster.folder / "store"
    store.mkdir(parents=True, exist_ok=True)
    # The pod's user is not this machine's.
    state.chmod(0o777)
    cluster.claim(NAMESPACE, "davy-packages", store)
    cluster.claim(NAMESPACE, "state-davy-detector-0", state, writable=True)
    changes: dict[str, dict[str, str]] = {
        "operator": {
            "DAVY_OPERATOR_PROMETHEUS_URL": cluster.node.settings.prometheus_url,
            "DAVY_OPERATOR_PROMETHEUS_MARGIN_SECONDS": str(2 * SCRAPE_SECONDS + 1),
            "DAVY_OPERATOR_DRAIN_SECONDS": "5",
        },
        "detector": {"DAVY_DETECTOR_ENGINE": "native"},
    }
    try:
        for component, environment in changes.items():
            for document in _documents(BASE / component):
                apply(cluster.api, _changed(document, cluster.images[component], environment))
        davy = Davy(cluster)
        eventually("an operator leads", lambda: davy.leader() is not None, PATIENCE)
        eventually("the detector is ready", lambda: _all_ready(davy.pods("detector")), PATIENCE)
        yield davy
    finally:
        cluster.remove_namespace(NAMESPACE)


def _documents(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob("*.yaml")):
        if path.name != "kustomization.yaml":
            yield from yaml.safe_load_all(path.read_text(encoding="utf-8"))


def _changed(
    document: dict[str, Any], image: str, environment: Mapping[str, str]
) -> dict[str, Any]:
    """Return a workload with this image and these variables; anything else as it is."""
    if document["kind"] not in {"Deployment", "StatefulSet"}:
        return document
    changed = copy.deepcopy(document)
    (container,) = changed["spec"]["template"]["spec"]["containers"]
    container["image"] = image
    kept = [item for item in container["env"] if item["name"] not in environment]
    container["env"] = [
        *kept, *({"name": name, "value": value} for name, value in environment.items())
    ]  # fmt: skip
    for claim in changed["spec"].get("volumeClaimTemplates", ()):
        # Volumes are made by hand here: no class of storage does it.
        claim["spec"]["storageClassName"] = ""
    return changed


def _all_ready(pods: list[client.V1Pod]) -> bool:
    return bool(pods) and all(
        any(item.type == "Ready" and item.status == "True" for item in pod.status.conditions or ())
        for pod in pods
    )
