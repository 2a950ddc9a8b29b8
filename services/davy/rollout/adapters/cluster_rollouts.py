"""ModelRollouts of a cluster as people see and change them.

Belongs here: between the API's objects and what people ask. Not here: the operator's side
(`davy.rollout.adapters.kube_rollouts`), finding the cluster (`davy.rollout.adapters.kubeconfig`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from davy.core.errors import ConflictError, NotFoundError
from davy.rollout.adapters.annotation_orders import ORDERS, AnnotationOrders, with_order
from davy.rollout.adapters.configmap_chunks import ConfigMapRecords
from davy.rollout.adapters.kube_rollouts import read_resource
from davy.rollout.adapters.kube_writes import KubernetesWrites
from davy.rollout.adapters.kubernetes_objects import Resource, StaleError
from davy.rollout.conditions import PROGRESSING
from davy.rollout.crd import GROUP, PLURAL, VERSION
from davy.rollout.orders import Order
from davy.rollout.record import Record
from davy.rollout.spec import Rollout, RolloutSpec
from davy.rollout.standing import Happened, IndicatorStanding, Standing, standing_of
from davy.rollout.status import ModelRolloutStatus, read_status

ROLLOUTS = Resource(GROUP, VERSION, PLURAL)
TRIES = 5


class ClusterRollouts:
    """The ModelRollouts of one namespace.

    Parameters
    ----------
    objects : KubernetesWrites
        The API server, with a field manager of its own; its records are only read here.
    namespace : str
        Where they are.
    """

    def __init__(self, objects: KubernetesWrites, namespace: str) -> None:
        self._objects = objects
        self._namespace = namespace
        self._records = ConfigMapRecords(objects, may_write=lambda: False)
        self._told: tuple[str, int, Standing] | None = None

    def names(self) -> Sequence[str]:
        """Return the names of all."""
        found = self._objects.select(ROLLOUTS, self._namespace)
        return sorted(item["metadata"]["name"] for item in found)

    def standing(self, name: str) -> Standing:
        """Return where one stands, as its status says, with what only the record knows."""
        found = self._get(name)
        standing = standing_of_resource(found)
        uid = str(found["metadata"].get("uid", ""))
        if not standing.looks or not uid:
            return standing
        # The record is read when it has grown, not at every glance.
        if self._told is None or self._told[:2] != (uid, standing.looks):
            try:
                self._told = (uid, standing.looks, standing_of(self.record(name)))
            except NotFoundError:
                return standing
        told = self._told[2]
        return replace(
            standing,
            started=told.started,
            canary_rate=told.canary_rate,
            step_requests=told.step_requests,
            min_requests=told.min_requests,
            indicators=told.indicators,
            vetoes=told.vetoes,
            happened=told.happened,
        )

    def record(self, name: str) -> Record:
        """Return the decision record of the last attempt.

        Raises
        ------
        NotFoundError
            There is none yet.
        InvalidInputError
            It is damaged.
        """
        resource = read_resource(self._get(name))
        attempt = self._records.attempt(resource)
        record = self._records.journal(resource, attempt).read() if attempt else None
        if record is None:
            raise NotFoundError(
                "has no decision record yet", where=resource.where,
                fix="The operator writes it at its first look",
            )  # fmt: skip
        return record

    def start(self, rollout: Rollout) -> None:
        """Make the resource; the operator begins.

        Raises
        ------
        ConflictError
            There is one of this name.
        RefusedByServerError
            The API server does not take it; says why.
        """
        name = rollout.metadata.name
        body = {
            "apiVersion": rollout.api_version,
            "kind": rollout.kind,
            "metadata": {"name": name, "namespace": self._namespace},
            "spec": rollout.spec.document(),
        }
        try:
            self._objects.create(ROLLOUTS, self._namespace, body)
        except StaleError:
            raise ConflictError(
                "a rollout of this name is there already",
                where=f"modelrollout {self._namespace}/{name}",
                fix="See davy rollout status; delete it first, or give the new one another name",
            ) from None

    def order(self, name: str, order: Order) -> None:
        """Give an order; the operator reads it at its next look.

        Raises
        ------
        StaleError
            The resource was changed again and again meanwhile.
        """
        for left in reversed(range(TRIES)):
            found = self._get(name)
            metadata = found["metadata"]
            candidate = str((found.get("spec") or {}).get("candidate", {}).get("version", ""))
            uid = str(metadata["uid"])
            bound = order.for_resource(uid, candidate, int(metadata["generation"]))
            annotations = metadata.get("annotations") or {}
            AnnotationOrders(
                annotations, uid
            ).read()  # damage is named before anything is added to it
            body = {
                "metadata": {
                    "resourceVersion": metadata["resourceVersion"],
                    "annotations": {ORDERS: with_order(annotations, bound)},
                }
            }
            try:
                self._objects.merge_patch(ROLLOUTS, self._namespace, name, body)
            except StaleError:
                if not left:
                    raise
            else:
                return

    def _get(self, name: str) -> dict[str, Any]:
        found = self._objects.get(ROLLOUTS, self._namespace, name)
        if found is None:
            known = ", ".join(self.names()) or "none"
            raise NotFoundError(
                f"no such rollout (there: {known})",
                where=f"modelrollout {self._namespace}/{name}",
                fix="Name one of these, another --namespace, or the folder of one that runs here",
            )
        return found


def standing_of_resource(found: Mapping[str, Any]) -> Standing:
    """Return where a ModelRollout stands, as far as its status tells."""
    metadata, document = found["metadata"], found.get("spec") or {}
    status = read_status(found.get("status"))
    # Checked by the API server when it was written; a newer one may hold what we do not know.
    spec = RolloutSpec.model_validate(document)
    progressing = status.condition(PROGRESSING)
    weight = status.weights.canary if status.weights else 0
    return Standing(
        name=metadata["name"],
        stable=status.versions.stable if status.versions else "?",
        canary=spec.candidate.version,
        phase=status.phase,
        reason=progressing.reason if progressing else "NotBegun",
        message=progressing.message if progressing else "the operator has not looked at it yet",
        weight=weight,
        weight_read=status.weights.canary if status.weights else None,
        step=status.step,
        steps=tuple(step.weight for step in spec.steps),
        looks=status.looks,
        seen=status.last_look_time,
        deadline=spec.analysis.deadline.total_seconds(),
        indicators=tuple(_indicators(spec, status)),
        happened=tuple(_happened(status)),
        where=f"modelrollout {metadata['namespace']}/{metadata['name']}",
        baseline=(status.versions.baseline or "") if status.versions else "",
    )


def _indicators(spec: RolloutSpec, status: ModelRolloutStatus) -> Iterator[IndicatorStanding]:
    limits = spec.limits()
    counts = {item.indicator: item for item in status.evidence}
    for verdict in status.verdicts:
        count = counts.get(verdict.indicator)
        yield IndicatorStanding.of(
            verdict,
            limits.get(verdict.indicator),
            requests=count.canary_requests if count else None,
            events=count.canary_events if count else None,
        )


def _happened(status: ModelRolloutStatus) -> Iterator[Happened]:
    for condition in sorted(status.conditions, key=lambda item: item.last_transition_time):
        yield Happened(
            time=condition.last_transition_time,
            looks=1,
            what=f"{condition.type} is {condition.status}",
            reason=condition.reason,
            message=condition.message,
        )
