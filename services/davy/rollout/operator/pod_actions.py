"""What is done about a pod of the canary that alone carries a fail, or is the only one.

Belongs here: asking for it, and telling people. Not here: which pod, and why (`davy.rollout.pods`).
"""

from __future__ import annotations

from dataclasses import dataclass

from davy.rollout.operator.notes import pod_note
from davy.rollout.operator.ports import Delivery, Pods, Resource, Rollouts
from davy.rollout.pods import PodAction
from davy.rollout.series import Arms


@dataclass(frozen=True, slots=True)
class PodActions:
    """Carries out what a look asks of the pods; asking again changes nothing.

    Parameters
    ----------
    rollouts, pods
        See `davy.rollout.operator.ports`.
    """

    rollouts: Rollouts
    pods: Pods

    def take(
        self, resource: Resource, attempt: int, action: PodAction, delivery: Delivery, arms: Arms
    ) -> None:
        """Replace a pod, or give the canary a second one where that can be; else people are told.

        Raises
        ------
        TemporaryError
            The API server does not answer.
        """
        if action.kind == "replace":
            done = self.pods.replace(resource, action.pod)
        else:
            done = delivery.second_pod(arms)
        self.rollouts.tell(resource, pod_note(attempt, action, done=done))
