"""The writes of the operator that `KubernetesObjects` does not have.

Belongs here: deleting one object and no other of its name, server-side apply of a status.
Not here: what is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from davy.rollout.adapters.kubernetes_objects import KubernetesObjects, Resource, object_path

# Owns the status of a ModelRollout, and nothing else.
STATUS_MANAGER = "davy-operator"


class KubernetesWrites(KubernetesObjects):
    """Reads and writes objects of one API server, for the operator."""

    def deleted(self, resource: Resource, namespace: str, name: str, *, uid: str) -> None:
        """Delete an object, if it is still that one."""
        body = {"preconditions": {"uid": uid}}
        self._call("DELETE", object_path(resource, namespace, name), body=body)

    def apply_status(
        self, resource: Resource, namespace: str, name: str, body: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Apply a status: fields that this manager wrote before and are not in it, go.

        Forced, because no one else has a say in the status.
        """
        return self._call(
            "PATCH",
            f"{object_path(resource, namespace, name)}/status",
            body=body,
            query=[("fieldManager", STATUS_MANAGER), ("force", "true")],
            kind="application/apply-patch+yaml",
        )
