"""KServe's Standard mode as a router: ``spec.canary[]``, read back from the HTTPRoutes.

Belongs here: what is looked at. Not here: what is written next (`davy.rollout.kserve.standard`).
"""

from __future__ import annotations

from typing import Any

from davy.core.clock import Clock
from davy.rollout.adapters.kserve_service import KServeService, Plan
from davy.rollout.adapters.kubernetes_objects import KubernetesObjects, Resource, StaleError
from davy.rollout.kserve import routes as http_routes
from davy.rollout.kserve import service as isvc
from davy.rollout.kserve import standard
from davy.rollout.kserve.mark import Mark
from davy.rollout.kserve.moves import Done, Patch
from davy.rollout.series import Arms
from davy.rollout.spec import Candidate

HTTP_ROUTES = Resource("gateway.networking.k8s.io", "v1", "httproutes")
DEPLOYMENTS = Resource("apps", "v1", "deployments")
ENDPOINT_SLICES = Resource("discovery.k8s.io", "v1", "endpointslices")

DRAIN_SECONDS = 10.0


class KServeStandard(KServeService[standard.Seen]):
    """An InferenceService in Standard mode; see `KServeService`.

    Parameters
    ----------
    drain : float
        Seconds for which an arm must have been without weight, as the gateway has accepted it,
        before it is taken out of the spec.
    """

    plan = Plan(standard.next_step, standard.read_weight, standard.not_ready)

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
        drain: float = DRAIN_SECONDS,
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
        self._drain = drain

    def second_pod(self, arms: Arms) -> bool:
        """Have a second pod of the canary, where the stable arm can spare one. See `Workload`."""
        self._check(arms)
        service = self._read()
        move = standard.second_pod(self._seen(service, self._marks.read(), arms))
        if isinstance(move, Patch):
            try:
                self._write(service, move)
            except StaleError:
                # Somebody wrote in between; it is asked for again at the next look.
                return False
        return isinstance(move, Patch | Done)

    def _seen(self, service: dict[str, Any] | None, mark: Mark | None, arms: Arms) -> standard.Seen:
        workloads = self._workloads(service, mark)
        routes = [
            route
            for name in (self.service, f"{self.service}-predictor")
            if (route := self.objects.get(HTTP_ROUTES, self.namespace, name)) is not None
        ]
        weights = http_routes.shared_weights(routes, workloads)
        programmed = http_routes.programmed(routes)
        available = {name: self._available(name) for name in workloads}
        # Numbers of pods come and go; that there are some is what the routes hang on. The
        # generation is what was asked for: routes that stood still before are not late for it.
        state = (
            isvc.uid(service) if service else "",
            isvc.generation(service) if service else 0,
            tuple(sorted((weights or {}).items())),
            programmed,
            tuple(name for name in workloads if available[name]),
        )
        return standard.Seen(
            rollout=self.rollout,
            candidate=self.candidate,
            service=service,
            mark=mark,
            weights=weights,
            routed=bool(routes),
            programmed=programmed,
            available=available,
            steady_seconds=self.steady.seconds(state),
            drain_seconds=self._drain,
            baseline=arms.baseline,
        )

    def _workloads(self, service: dict[str, Any] | None, mark: Mark | None) -> tuple[str, ...]:
        names = {isvc.predictor(service).get("name")} if service else set()
        if mark is not None:
            names |= {*mark.names, mark.stable.get("name")}
        return tuple(sorted(isvc.workload(self.service, name) for name in names))

    def _available(self, workload: str) -> int:
        """Return how many pods are available and behind the Service: KServe says so too early."""
        deployment = self.objects.get(DEPLOYMENTS, self.namespace, workload)
        if deployment is None:
            return 0
        slices = self.objects.select(
            ENDPOINT_SLICES, self.namespace, f"kubernetes.io/service-name={workload}"
        )
        ready = sum(
            1
            for piece in slices
            for endpoint in piece.get("endpoints") or ()
            if (endpoint.get("conditions") or {}).get("ready") is not False
        )
        return min(int((deployment.get("status") or {}).get("availableReplicas") or 0), ready)
