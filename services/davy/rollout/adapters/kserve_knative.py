"""KServe's Knative mode as a router: ``canaryTrafficPercent``, read back from the status.

Belongs here: what is looked at. Not here: what is written next (`davy.rollout.kserve.knative`).
"""

from __future__ import annotations

import json
from typing import Any

from davy.core.clock import Clock
from davy.rollout.adapters.kserve_service import KServeService, Plan
from davy.rollout.adapters.kubernetes_objects import KubernetesObjects
from davy.rollout.kserve import knative
from davy.rollout.kserve import service as isvc
from davy.rollout.kserve.mark import Mark
from davy.rollout.series import Arms
from davy.rollout.spec import Candidate


class KServeKnative(KServeService[knative.Seen]):
    """An InferenceService in Knative mode; see `KServeService`.

    Parameters
    ----------
    lag : float
        Seconds for which the status must have stood still before it is taken for the present one.
    """

    plan = Plan(knative.next_step, knative.read_weight, knative.not_ready)

    def __init__(
        self,
        objects: KubernetesObjects,
        *,
        namespace: str,
        service: str,
        rollout: str,
        candidate: Candidate,
        clock: Clock,
        patience: float = 10.0,
        lag: float = knative.LAG_SECONDS,
    ) -> None:
        super().__init__(
            objects,
            namespace=namespace,
            service=service,
            rollout=rollout,
            candidate=candidate,
            clock=clock,
            patience=patience,
        )
        self._lag = lag

    def _seen(self, service: dict[str, Any] | None, mark: Mark | None, arms: Arms) -> knative.Seen:
        components = ((service or {}).get("status") or {}).get("components") or {}
        state = (
            isvc.uid(service) if service else "",
            isvc.generation(service) if service else 0,
            json.dumps(components.get("predictor") or {}, sort_keys=True),
        )
        return knative.Seen(
            rollout=self.rollout,
            candidate=self.candidate,
            service=service,
            mark=mark,
            steady_seconds=self.steady.seconds(state),
            lag_seconds=self._lag,
            baseline=arms.baseline,
        )
