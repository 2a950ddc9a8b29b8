"""The writes of the operator that `KubernetesObjects` does not have.

Belongs here: writes that return what was written, server-side apply of a status.
Not here: what is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from davy.rollout.adapters.kubernetes_objects import KubernetesObjects, Resource

# Owns the status of a ModelRollout, and nothing else.
STATUS_MANAGER = "davy-operator"


class KubernetesWrites(KubernetesObjects):
    """Reads and writes objects of one API server, for the operator."""

    def created(
        self, resource: Resource, namespace: str, body: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Make an object and return it; `StaleError` when it exists."""
        return self._call("POST", self._place(resource, namespace), body=body, query=_QUERY)

    def replaced(
        self, resource: Resource, namespace: str, body: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Write a whole object over the version that it names, and return it."""
        name = str(body["metadata"]["name"])
        return self._call("PUT", self._place(resource, namespace, name), body=body, query=_QUERY)

    def deleted(self, resource: Resource, namespace: str, name: str, *, uid: str) -> None:
        """Delete an object, if it is still that one."""
        body = {"preconditions": {"uid": uid}}
        self._call("DELETE", self._place(resource, namespace, name), body=body)

    def apply_status(
        self, resource: Resource, namespace: str, name: str, body: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Apply a status: fields that this manager wrote before and are not in it, go.

        Forced, because no one else has a say in the status.
        """
        return self._call(
            "PATCH",
            f"{self._place(resource, namespace, name)}/status",
            body=body,
            query=[*_QUERY, ("force", "true")],
            kind="application/apply-patch+yaml",
        )

    @staticmethod
    def _place(resource: Resource, namespace: str, name: str = "") -> str:
        group = f"apis/{resource.group}" if resource.group else "api"
        place = f"/{group}/{resource.version}/namespaces/{quote(namespace)}/{resource.plural}"
        return f"{place}/{quote(name)}" if name else place


_QUERY = [("fieldManager", STATUS_MANAGER)]
