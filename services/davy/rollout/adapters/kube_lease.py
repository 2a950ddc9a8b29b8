"""The Lease of leader election in an API server (``coordination.k8s.io/v1``).

Belongs here: reading and writing it. Not here: who takes it (`davy.rollout.operator.election`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from davy.core.clock import Clock
from davy.rollout.adapters.kube_writes import KubernetesWrites
from davy.rollout.adapters.kubernetes_objects import Resource as Kind
from davy.rollout.operator.election import DURATION_SECONDS, Lease

LEASES = Kind("coordination.k8s.io", "v1", "leases")


class KubeLease:
    """One Lease by its name.

    Parameters
    ----------
    objects : KubernetesWrites
        The API server.
    namespace, name : str
        Of the Lease.
    clock : Clock
        Where the time comes from that people read in it.
    """

    def __init__(
        self, objects: KubernetesWrites, *, namespace: str, name: str, clock: Clock
    ) -> None:
        self._objects = objects
        self._namespace = namespace
        self._name = name
        self._clock = clock

    def read(self) -> Lease | None:
        """Return it, or None when there is none."""
        found = self._objects.get(LEASES, self._namespace, self._name)
        return None if found is None else _lease(found)

    def write(self, holder: str, before: Lease | None) -> Lease:
        """Make `holder` its holder; `StaleError` when it is not as it was read any more."""
        now = self._clock.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        new = before is None or before.holder != holder
        spec: dict[str, Any] = {
            "holderIdentity": holder,
            "leaseDurationSeconds": int(DURATION_SECONDS),
            "renewTime": now,
            "leaseTransitions": (before.transitions if before else 0) + (1 if new else 0),
        }
        if new:
            spec["acquireTime"] = now
        body: dict[str, Any] = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": spec,
        }
        if before is None:
            return _lease(self._objects.create(LEASES, self._namespace, body))
        body["metadata"]["resourceVersion"] = before.version
        return _lease(self._objects.replace(LEASES, self._namespace, body))


def _lease(found: Mapping[str, Any]) -> Lease:
    spec = found.get("spec") or {}
    return Lease(
        holder=str(spec.get("holderIdentity") or ""),
        renewed=str(spec.get("renewTime") or ""),
        transitions=int(spec.get("leaseTransitions") or 0),
        version=str(found["metadata"]["resourceVersion"]),
        duration=float(spec.get("leaseDurationSeconds") or DURATION_SECONDS),
    )
