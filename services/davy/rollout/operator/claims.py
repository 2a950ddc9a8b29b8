"""Which of several rollouts of one InferenceService may act.

Belongs here: the pure choice. Not here: writing it down (`davy.rollout.operator.reconcile`).

A rollout claims its InferenceService by the condition Accepted, which is written before anything
else. Whoever has claimed keeps it until it has ended or is gone; among those who have not, the
oldest comes first. So an operator that was killed at any point chooses the same again.
"""

from __future__ import annotations

from collections.abc import Iterable

from davy.rollout.operator.ports import Resource
from davy.rollout.status import ENDED


def rival(resource: Resource, others: Iterable[Resource]) -> Resource | None:
    """Return the rollout that has the InferenceService before this one, or None.

    Parameters
    ----------
    resource : Resource
        The one that would like to act.
    others : iterable of Resource
        All of its namespace; it may be among them.
    """
    candidates = [
        other
        for other in others
        if other.uid != resource.uid
        and other.service == resource.service
        and _alive(other)
        and _rank(other) < _rank(resource)
    ]
    return min(candidates, key=_rank, default=None)


def _alive(resource: Resource) -> bool:
    """Whether it acts or will: one that is being deleted still takes its canary away."""
    if resource.status.phase in ENDED:
        # An edited spec begins anew, but only after it has claimed.
        return False
    return resource.status.claimed or not resource.deleting


def _rank(resource: Resource) -> tuple[bool, str, str]:
    return (not resource.status.claimed, resource.created.isoformat(), resource.uid)
