"""ModelRollouts of an API server: reading them, their status, Events about them.

Belongs here: between the API's objects and `davy.rollout.operator.ports`. Not here: what a status
says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from davy.core.clock import Clock
from davy.core.errors import NotFoundError, PermanentError
from davy.core.logging import get_logger
from davy.rollout.adapters.kube_writes import STATUS_MANAGER, KubernetesWrites
from davy.rollout.adapters.kubernetes_objects import Resource as Kind
from davy.rollout.adapters.kubernetes_objects import StaleError
from davy.rollout.crd import GROUP, PLURAL, VERSION
from davy.rollout.operator.ports import Note, Resource
from davy.rollout.spec import API_VERSION, KIND
from davy.rollout.status import ModelRolloutStatus, read_status

ROLLOUTS = Kind(GROUP, VERSION, PLURAL)
EVENTS = Kind("", "v1", "events")
# Others write its annotations.
TRIES = 5


class KubeRollouts:
    """The ModelRollouts of one API server.

    Parameters
    ----------
    objects : KubernetesWrites
        The API server.
    clock : Clock
        Where the time of an Event comes from.
    """

    def __init__(self, objects: KubernetesWrites, clock: Clock) -> None:
        self._objects = objects
        self._clock = clock

    def read(self, namespace: str, name: str) -> Resource | None:
        """Return one, or None when there is none."""
        found = self._objects.get(ROLLOUTS, namespace, name)
        return None if found is None else read_resource(found)

    def listed(self, namespace: str) -> Sequence[Resource]:
        """Return all of a namespace."""
        return [read_resource(item) for item in self._objects.select(ROLLOUTS, namespace)]

    def write_status(self, resource: Resource, status: ModelRolloutStatus) -> None:
        """Apply the status to that very resource; one that is gone has none.

        Raises
        ------
        TemporaryError
            It could not be written, or changed again and again meanwhile.
        """
        for left in reversed(range(TRIES)):
            found = self._objects.get(ROLLOUTS, resource.namespace, resource.name)
            if found is None or found["metadata"]["uid"] != resource.uid:
                return
            body = {
                "apiVersion": API_VERSION,
                "kind": KIND,
                # Not the uid alone: an API server does not look at it when a status is applied.
                "metadata": {
                    "name": resource.name,
                    "resourceVersion": found["metadata"]["resourceVersion"],
                },
                "status": status.document(),
            }
            try:
                self._objects.apply_status(ROLLOUTS, resource.namespace, resource.name, body)
            except NotFoundError:
                return
            except StaleError:
                if not left:
                    raise
            else:
                return

    def tell(self, resource: Resource, note: Note) -> None:
        """Make an Event, whose name is made of its key: the same one is made once.

        One that the API server refuses for good (its namespace is being deleted, a right is
        missing) is logged: what it tells must not hold up what it tells of.

        Raises
        ------
        TemporaryError
            The API server does not answer.
        """
        now = self._clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{resource.name}.{resource.uid[:13]}.{note.key}",
                "namespace": resource.namespace,
            },
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "name": resource.name,
                "namespace": resource.namespace,
                "uid": resource.uid,
            },
            "type": note.kind,
            "reason": note.reason,
            "message": note.message,
            "source": {"component": STATUS_MANAGER},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            self._objects.create(EVENTS, resource.namespace, body)
        except StaleError:
            return  # told already
        except PermanentError as error:
            get_logger("operator").warning(
                "event refused", rollout=f"{resource.namespace}/{resource.name}",
                reason=note.reason, message=note.message, error=str(error),
            )  # fmt: skip


def read_resource(found: Mapping[str, Any]) -> Resource:
    """Return a ModelRollout of the API server as the operator has it."""
    metadata = found["metadata"]
    return Resource(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=int(metadata["generation"]),
        created=datetime.fromisoformat(metadata["creationTimestamp"]),
        spec=found.get("spec") or {},
        status=read_status(found.get("status")),
        deleting="deletionTimestamp" in metadata,
        annotations=metadata.get("annotations") or {},
    )
