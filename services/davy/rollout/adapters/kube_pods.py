"""The pods of an InferenceService: replacing one.

Belongs here: finding and deleting it. Not here: which one (`davy.rollout.pods`).
"""

from __future__ import annotations

from davy.core.errors import NotFoundError
from davy.rollout.adapters.kube_writes import KubernetesWrites
from davy.rollout.adapters.kubernetes_objects import Resource as Kind
from davy.rollout.operator.ports import Resource

PODS = Kind("", "v1", "pods")
SERVICE_LABEL = "serving.kserve.io/inferenceservice"


class KubePods:
    """Pods of one API server."""

    def __init__(self, objects: KubernetesWrites) -> None:
        self._objects = objects

    def replace(self, resource: Resource, pod: str) -> bool:
        """Delete a pod, in whose place its Deployment makes another.

        Returns False for what is no pod of the rollout's InferenceService, such as one that is gone
        already, or an address where Prometheus knows no pod by its name.
        """
        if "/" in pod or ":" in pod:
            return False
        found = self._objects.get(PODS, resource.namespace, pod)
        labels = (found or {}).get("metadata", {}).get("labels") or {}
        if found is None or labels.get(SERVICE_LABEL) != resource.service:
            return False
        try:
            # That very pod: one of a StatefulSet would have the same name again.
            self._objects.deleted(PODS, resource.namespace, pod, uid=found["metadata"]["uid"])
        except NotFoundError:
            return False
        return True
