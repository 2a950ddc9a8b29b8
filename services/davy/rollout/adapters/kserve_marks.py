"""The note of a rollout on its InferenceService, in a ConfigMap beside it.

Belongs here: its name, and that it goes with the InferenceService. Not here: what it says.
"""

from __future__ import annotations

from typing import Any

from davy.rollout.adapters.kubernetes_objects import KubernetesObjects, Resource
from davy.rollout.kserve.mark import Mark

CONFIG_MAPS = Resource("", "v1", "configmaps")
KEY = "mark.json"


class ConfigMapMarks:
    """Reads and writes the one note of an InferenceService.

    A rollout that takes over replaces the note of the one before; two operators that both believe
    to lead cannot: each write names the version that was read.
    """

    def __init__(self, objects: KubernetesObjects, namespace: str, service: str) -> None:
        self._objects = objects
        self._namespace = namespace
        self._service = service
        self.name = f"davy-rollout-{service}"
        self._version: str | None = None

    def read(self) -> Mark | None:
        """Return the note, None when there is none."""
        found = self._objects.get(CONFIG_MAPS, self._namespace, self.name)
        self._version = found["metadata"]["resourceVersion"] if found else None
        if found is None or KEY not in (found.get("data") or {}):
            return None
        return Mark.from_text(found["data"][KEY], where=f"ConfigMap {self._namespace}/{self.name}")

    def write(self, mark: Mark) -> None:
        """Write the note over the one that was read last.

        Raises
        ------
        StaleError
            Somebody else wrote one since.
        """
        owner = {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "name": self._service,
            "uid": mark.uid,
        }
        metadata: dict[str, Any] = {
            "name": self.name,
            "labels": {"app.kubernetes.io/managed-by": "davy"},
            "ownerReferences": [owner],
        }
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata,
            "data": {KEY: mark.to_text()},
        }
        if self._version is None:
            self._objects.create(CONFIG_MAPS, self._namespace, body)
        else:
            metadata["resourceVersion"] = self._version
            self._objects.replace(CONFIG_MAPS, self._namespace, body)
