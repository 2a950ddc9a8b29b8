"""Which attempt of a rollout made the canary that an InferenceService has, as its note says.

Belongs here: finding it for a rollout whose record is gone. Not here: what a note says
(`davy.rollout.kserve.mark`), writing one (`davy.rollout.adapters.kserve_marks`).
"""

from __future__ import annotations

from davy.core.errors import InvalidInputError
from davy.rollout.adapters.kserve_marks import ConfigMapMarks
from davy.rollout.adapters.kubernetes_objects import KubernetesObjects
from davy.rollout.kserve import service as isvc
from davy.rollout.kserve.mark import Stage
from davy.rollout.operator.deliveries import identity_of
from davy.rollout.operator.ports import Made, Resource


class KubeMarks:
    """The notes of one API server.

    Parameters
    ----------
    objects : KubernetesObjects
        The API server; nothing is written.
    """

    def __init__(self, objects: KubernetesObjects) -> None:
        self._objects = objects

    def made(self, resource: Resource) -> Made | None:
        """Return what this rollout has noted last on its InferenceService, None when nothing.

        Raises
        ------
        InvalidInputError
            The note cannot be read.
        """
        if not resource.service:
            return None
        mark = ConfigMapMarks(self._objects, resource.namespace, resource.service).read()
        beginning = identity_of(resource)
        # An announced end may not have been made; what was promoted is not taken away.
        if mark is None or mark.stage == Stage.PROMOTED or not mark.rollout.startswith(beginning):
            return None
        attempt = mark.rollout.removeprefix(beginning)
        if not attempt.isdecimal():
            raise InvalidInputError(
                f"the note names no attempt: '{mark.rollout}'", where=resource.where,
                fix="End the canary by hand, then delete the ConfigMap of the note",
            )  # fmt: skip
        stable = isvc.serving_version({"spec": {"predictor": mark.stable}}) or ""
        return Made(int(attempt), stable=stable, canary=mark.version)
