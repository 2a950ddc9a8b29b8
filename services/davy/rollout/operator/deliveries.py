"""What moves the InferenceService of each rollout, kept from one tick to the next.

Belongs here: making it once for each attempt. Not here: what is asked of it
(`davy.rollout.operator.reconcile`).
"""

from __future__ import annotations

from davy.core.errors import NotFoundError
from davy.rollout.kserve.moves import SERVICE_GONE
from davy.rollout.operator.ports import Delivery, Places, Resource
from davy.rollout.operator.trouble import RefusedRolloutError
from davy.rollout.spec import Candidate


class Deliveries:
    """The deliveries of all rollouts: one knows for how long the router has been as it is.

    Parameters
    ----------
    places : Places
        Makes them.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._kept: dict[str, dict[int, Delivery]] = {}

    def of(
        self, resource: Resource, attempt: int, candidate: Candidate, traffic: str = "Auto"
    ) -> Delivery:
        """Return that of an attempt.

        Raises
        ------
        RefusedRolloutError
            The InferenceService is gone.
        PermanentError
            The installed KServe cannot do what is asked.
        """
        kept = self._kept.setdefault(resource.uid, {})
        if attempt not in kept:
            identity = f"{identity_of(resource)}{attempt}"
            try:
                kept[attempt] = self._places.delivery(resource, identity, candidate, traffic)
            except NotFoundError as error:
                raise RefusedRolloutError(
                    SERVICE_GONE,
                    f"there is no InferenceService '{resource.service}' ({error.what})",
                    where=resource.where,
                    fix="Create it, then create this rollout again",
                ) from None
        return kept[attempt]

    def forget(self, uid: str) -> None:
        """Keep those of a rollout no longer."""
        self._kept.pop(uid, None)


def identity_of(resource: Resource) -> str:
    """Return what the identity of each attempt of a rollout begins with."""
    return f"{name_of(resource)}/{resource.uid}/"


def name_of(resource: Resource) -> str:
    """Return what a rollout is called in its record, its metrics and the log."""
    return f"{resource.namespace}/{resource.name}"
