"""Finds out how an InferenceService is run, and returns its router.

Belongs here: what is asked of the API server, once, before a rollout begins.
Not here: the decision (`davy.rollout.kserve.mode`).
"""

from __future__ import annotations

from typing import Any, Literal

from davy.core.clock import Clock
from davy.core.errors import ConfigurationError, NotFoundError, UnavailableError
from davy.rollout.adapters.kserve_knative import KServeKnative
from davy.rollout.adapters.kserve_service import INFERENCE_SERVICES, KServeService
from davy.rollout.adapters.kserve_standard import DRAIN_SECONDS, HTTP_ROUTES, KServeStandard
from davy.rollout.adapters.kubernetes_objects import KubernetesObjects
from davy.rollout.kserve.knative import LAG_SECONDS
from davy.rollout.kserve.mode import Mode, mode_of
from davy.rollout.kserve.moves import UNSUPPORTED, Refuse, RefusedError, Wait
from davy.rollout.spec import Candidate

_CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/inferenceservices.serving.kserve.io"


def detect_mode(
    objects: KubernetesObjects,
    *,
    namespace: str,
    service: str,
    wanted: Literal["Auto", "Knative", "Standard"] = "Auto",
) -> Mode:
    """Return the mode of an InferenceService.

    Raises
    ------
    ConfigurationError
        There is no KServe.
    NotFoundError
        There is no such InferenceService.
    RefusedError
        A rollout is not possible there, with the reason.
    UnavailableError
        KServe has not looked at the InferenceService yet, or the API server does not answer.
    """
    where = f"InferenceService {namespace}/{service}"
    if not objects.serves("serving.kserve.io", "v1beta1", "inferenceservices"):
        raise ConfigurationError(
            "the cluster knows no InferenceService", where=where, fix="Install KServe"
        )
    found = objects.get(INFERENCE_SERVICES, namespace, service)
    if found is None:
        raise NotFoundError("there is no such InferenceService", where=where)
    try:
        crd = objects.raw(_CRD)
    except ConfigurationError:
        # An operator that may not read it finds out by the weight that is not followed.
        crd = None
    mode = mode_of(found, crd, wanted)
    if isinstance(mode, Refuse):
        raise RefusedError(mode, where=where)
    if isinstance(mode, Wait):
        raise UnavailableError(mode.reason, where=where, delay=2.0)
    group, version, plural = HTTP_ROUTES
    if mode == Mode.STANDARD and not objects.serves(group, version, plural):
        refused = Refuse(
            UNSUPPORTED,
            "the cluster has no HTTPRoute: without the Gateway API Standard mode splits no traffic",
            "Install the Gateway API and set enableGatewayApi in KServe's configuration",
        )
        raise RefusedError(refused, where=where)
    return mode


def kserve_router(
    objects: KubernetesObjects,
    *,
    namespace: str,
    service: str,
    rollout: str,
    candidate: Candidate,
    clock: Clock,
    wanted: Literal["Auto", "Knative", "Standard"] = "Auto",
    patience: float = 10.0,
    drain: float = DRAIN_SECONDS,
    lag: float = LAG_SECONDS,
) -> KServeService[Any]:
    """Return the `Traffic` and `Workload` for an InferenceService; raises as `detect_mode` does."""
    mode = detect_mode(objects, namespace=namespace, service=service, wanted=wanted)
    if mode == Mode.KNATIVE:
        return KServeKnative(
            objects,
            namespace=namespace,
            service=service,
            rollout=rollout,
            candidate=candidate,
            clock=clock,
            patience=patience,
            lag=lag,
        )
    return KServeStandard(
        objects,
        namespace=namespace,
        service=service,
        rollout=rollout,
        candidate=candidate,
        clock=clock,
        patience=patience,
        drain=drain,
    )
