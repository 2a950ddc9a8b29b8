"""What the operator, and a person who orders rollouts, must be allowed to do.

Belongs here: the rights as data, as the API server is asked for them.
Not here: asking. A test compares the operator's with k8s/base/operator/rbac.yaml.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """On whose behalf rights are asked for."""

    OPERATOR = "operator"
    PERSON = "person"


class Place(StrEnum):
    """Where a right is needed."""

    MODELS = "models"  # the namespaces of the InferenceServices
    OWN = "own"  # the operator's namespace
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True, order=True)
class Right:
    """One verb on one resource; a subresource follows a slash."""

    place: Place
    group: str
    resource: str
    verb: str
    name: str = ""

    def __str__(self) -> str:
        kind = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb} {kind}"


_KSERVE_CRD = "inferenceservices.serving.kserve.io"


def _rights(place: Place, group: str, resource: str, verbs: str, name: str = "") -> set[Right]:
    return {Right(place, group, resource, verb, name) for verb in verbs.split()}


OPERATOR = frozenset(
    _rights(Place.MODELS, "davylamp.dev", "modelrollouts", "get list watch patch")
    | _rights(Place.MODELS, "davylamp.dev", "modelrollouts/status", "patch")
    | _rights(Place.MODELS, "", "configmaps", "get list create update")
    | _rights(Place.MODELS, "", "events", "create")
    | _rights(Place.MODELS, "serving.kserve.io", "inferenceservices", "get patch")
    | _rights(Place.MODELS, "gateway.networking.k8s.io", "httproutes", "get")
    | _rights(Place.MODELS, "apps", "deployments", "get")
    | _rights(Place.MODELS, "discovery.k8s.io", "endpointslices", "list")
    | _rights(Place.MODELS, "", "pods", "get delete")
    | _rights(
        Place.CLUSTER, "apiextensions.k8s.io", "customresourcedefinitions", "get", _KSERVE_CRD
    )
    | _rights(Place.OWN, "coordination.k8s.io", "leases", "get create update")
)

# What the operator needs for rollouts in Standard mode alone.
STANDARD_ONLY = frozenset(
    right for right in OPERATOR if right.resource in {"httproutes", "deployments", "endpointslices"}
)

# `davy rollout` and `davy operator record` on a cluster.
PERSON = frozenset(
    _rights(Place.MODELS, "davylamp.dev", "modelrollouts", "get list create patch delete")
    | _rights(Place.MODELS, "serving.kserve.io", "inferenceservices", "get")
    | _rights(Place.MODELS, "", "configmaps", "get list")
)

RIGHTS = {Role.OPERATOR: OPERATOR, Role.PERSON: PERSON}
