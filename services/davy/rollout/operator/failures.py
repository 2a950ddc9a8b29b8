"""What a rollout that fails for good leaves behind, and taking its weight back before.

Belongs here: whether a canary may have weight that nobody watches; asking for weight 0.
Not here: which errors are for good (`davy.rollout.operator.trouble`).

Nobody looks at a failed rollout any more. So its canary gives its weight back first, unless
somebody else has changed the InferenceService: that is theirs then, and people are told.
"""

from __future__ import annotations

from davy.core.errors import DavyError
from davy.core.logging import get_logger
from davy.rollout.kserve.moves import SERVICE_EDITED, SERVICE_GONE
from davy.rollout.operator.deliveries import Deliveries
from davy.rollout.operator.ports import Delivery, Resource
from davy.rollout.series import Arms
from davy.rollout.spec import Candidate
from davy.rollout.state import Phase, State
from davy.rollout.status import FAILED, ModelRolloutStatus


def unwatched(status: ModelRolloutStatus) -> bool:
    """Whether a rollout has failed, and its canary has weight or may have some."""
    if status.phase != FAILED or status.settled_attempt >= status.attempt:
        return False
    return status.weights is None or status.weights.canary > 0


def arms_of(status: ModelRolloutStatus) -> Arms:
    """Return the arms by a status alone; without names where it does not say them."""
    return status.versions.arms() if status.versions is not None else Arms("", "")


def weight_left(delivery: Delivery, arms: Arms, state: State, reason: str) -> int | None:
    """Return the weight that a canary is left with; None where the router does not say.

    Parameters
    ----------
    delivery : Delivery
        Of the attempt that failed.
    arms : Arms
        Its versions.
    state : State
        Where it stood.
    reason : str
        Why it failed, as a condition says it.
    """
    if reason == SERVICE_GONE or (state.step < 0 and not state.weight):
        # The canary went with it, or never had any.
        return 0
    # What was promoted on its evidence is not taken back because its end was refused.
    return _asked(delivery, arms, take=reason != SERVICE_EDITED and state.phase != Phase.PROMOTED)


def weight_left_without_record(
    deliveries: Deliveries, resource: Resource, reason: str
) -> int | None:
    """Return the same for a rollout of which its status alone is known."""
    status = resource.status
    weight = status.weights.canary if status.weights is not None else None
    if status.versions is None or status.settled_attempt >= status.attempt or not weight:
        return weight
    if reason == SERVICE_GONE:
        return 0
    arms = arms_of(status)
    try:
        delivery = deliveries.of(resource, status.attempt, Candidate(version=arms.canary))
    except DavyError as error:
        _log(arms, error)
        return weight
    left = _asked(delivery, arms, take=reason != SERVICE_EDITED and weight < 100)
    return weight if left is None else left


def _asked(delivery: Delivery, arms: Arms, *, take: bool) -> int | None:
    try:
        if take:
            delivery.set_weight(arms, 0)
        return delivery.read_weight(arms)
    except DavyError as error:
        _log(arms, error)
        return None


def _log(arms: Arms, error: DavyError) -> None:
    get_logger("operator").warning("weight not taken back", candidate=arms.canary, error=str(error))
