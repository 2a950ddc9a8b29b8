"""Reading an InferenceService, and making a candidate's predictor out of the stable one.

Belongs here: names as KServe makes them, what differs between two arms, merge patches.
Not here: when something is written (`standard`, `knative`).
"""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Mapping
from typing import Any

from davy.protocol.names import ARM_VARIABLE, BASELINE
from davy.rollout.kserve.moves import SERVICE_GONE, UNSUPPORTED, Refuse
from davy.rollout.spec import Candidate

# On the predictor, so that KServe puts it on the arm's pods and on nothing else.
VERSION_ANNOTATION = "davylamp.dev/version"
# Under which name the API server notes what Davy writes.
FIELD_MANAGER = "davy-rollout"
MODE_ANNOTATION = "serving.kserve.io/deploymentMode"

CANARY_PERCENT = "canaryTrafficPercent"
# KServe refuses these on a canary: it has fixed replicas.
SCALING = (
    "minReplicas",
    "maxReplicas",
    "scaleTarget",
    "scaleMetric",
    "scaleMetricType",
    "autoScaling",
)
_CONTAINER = "kserve-container"
_STORAGE = "STORAGE_URI"
# `{isvc}-{name}-predictor` names a Service: one DNS label.
_LABEL = 63

_NO_CONTAINER = Refuse(
    UNSUPPORTED,
    "the stable predictor has neither a model nor a container of its own",
    f"Give it a `model`, or one container named {_CONTAINER}",
)

Object = Mapping[str, Any]


def uid(service: Object) -> str:
    """Return the identity of the object, which a deleted and recreated one does not keep."""
    return str(service["metadata"].get("uid", ""))


def generation(service: Object) -> int:
    """Return ``metadata.generation``: one more with each change of the spec."""
    return int(service["metadata"].get("generation", 0))


def gone(service: Object | None) -> Refuse | None:
    """Refuse an InferenceService that is not there, or about to go."""
    if service is not None and not service["metadata"].get("deletionTimestamp"):
        return None
    state = "does not exist" if service is None else "is being deleted"
    return Refuse(
        SERVICE_GONE,
        f"the InferenceService {state}",
        "Create it again and start a new rollout, or delete this one",
    )


def predictor(service: Object) -> dict[str, Any]:
    """Return a copy of ``spec.predictor``."""
    return copy.deepcopy(dict(service["spec"].get("predictor") or {}))


def serving_version(service: Object) -> str | None:
    """Return the version that the stable predictor says it serves; None when it does not say."""
    return version_of(service["spec"].get("predictor") or {})


def version_of(arm: Object) -> str | None:
    """Return the version that a predictor says it serves; None when it does not say."""
    version = (arm.get("annotations") or {}).get(VERSION_ANNOTATION)
    return None if version is None else str(version)


def last_editor(service: Object) -> str:
    """Return who but Davy wrote the spec last, as the API server noted it; empty if nobody."""
    entries = [
        entry
        for entry in service["metadata"].get("managedFields") or ()
        if entry.get("manager") != FIELD_MANAGER
        and not entry.get("subresource")
        and "f:spec" in (entry.get("fieldsV1") or {})
    ]
    latest = max(entries, key=lambda entry: entry.get("time") or "", default=None)
    return str(latest.get("manager", "")) if latest else ""


def workload(service_name: str, predictor_name: str | None) -> str:
    """Return the name of an arm's Deployment and Service in Standard mode."""
    return (
        f"{service_name}-{predictor_name}-predictor"
        if predictor_name
        else (f"{service_name}-predictor")
    )


def canary_name(service_name: str, version: str, *taken: str | None) -> str:
    """Return a ``predictor.name`` for a version: a DNS label that no other arm has."""
    label = re.sub(r"[^a-z0-9]+", "-", version.lower()).strip("-")
    room = _LABEL - len(workload(service_name, "x")) + 1
    if label and len(label) <= room and label not in taken:
        return label
    digest = hashlib.sha256(version.encode()).hexdigest()[:8]
    return f"{label[: room - 9].rstrip('-')}-{digest}".lstrip("-")[-room:]


def candidate_predictor(stable: Object, candidate: Candidate) -> dict[str, Any] | Refuse:
    """Return the stable predictor with what the candidate brings instead.

    Everything else (resources, probes, the runtime, other environment variables) stays, so that the
    arms differ in the model alone.
    """
    if candidate.image is None and candidate.package_uri is None:
        return Refuse(
            UNSUPPORTED,
            "the candidate names neither an image nor a package",
            "Set candidate.image, candidate.packageURI or both",
        )
    made = copy.deepcopy(dict(stable))
    made.pop(CANARY_PERCENT, None)
    annotations = dict(made.get("annotations") or {})
    made["annotations"] = {**annotations, VERSION_ANNOTATION: candidate.version}
    if "model" in made:
        if candidate.package_uri is not None:
            made["model"]["storageUri"] = candidate.package_uri
        if candidate.image is not None:
            made["model"]["image"] = candidate.image
        return made
    container = _container(made)
    if container is None:
        return _NO_CONTAINER
    if candidate.image is not None:
        container["image"] = candidate.image
    if candidate.package_uri is not None:
        _set_variable(container, _STORAGE, candidate.package_uri)
    return made


def baseline_predictor(stable: Object, version: str) -> dict[str, Any] | Refuse:
    """Return the stable predictor as a baseline: the same in all but what its counters say.

    Parameters
    ----------
    stable : mapping
        What is copied.
    version : str
        What the copy's counters say.
    """
    made = copy.deepcopy(dict(stable))
    made.pop(CANARY_PERCENT, None)
    annotations = dict(made.get("annotations") or {})
    made["annotations"] = {**annotations, VERSION_ANNOTATION: version}
    container = made["model"] if "model" in made else _container(made)
    if container is None:
        return _NO_CONTAINER
    _set_variable(container, ARM_VARIABLE, BASELINE)
    return made


def storage_uri(arm: Object) -> str:
    """Return where an arm's model comes from, empty when KServe does not fetch it."""
    if "model" in arm:
        return str(arm["model"].get("storageUri") or "")
    container = _container(arm)
    for variable in (container or {}).get("env") or ():
        if variable.get("name") == _STORAGE:
            return str(variable.get("value") or "")
    return ""


def image(arm: Object) -> str:
    """Return the image of an arm, empty when the runtime brings it."""
    if "model" in arm:
        return str(arm["model"].get("image") or "")
    return str((_container(arm) or {}).get("image") or "")


def same_model(one: Object, other: Object) -> bool:
    """Say whether two predictors serve the same model from the same image."""
    return (storage_uri(one), image(one)) == (storage_uri(other), image(other))


def merge_patch(before: Object, after: Object) -> dict[str, Any]:
    """Return the JSON merge patch (RFC 7386) that makes `after` of `before`.

    >>> merge_patch({"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 4}})
    {'b': {'c': 4, 'd': None}}
    """
    patch: dict[str, Any] = {}
    for key in [*before, *(key for key in after if key not in before)]:
        if key not in after:
            patch[key] = None
        elif key not in before:
            patch[key] = after[key]
        elif before[key] != after[key]:
            both = isinstance(before[key], Mapping) and isinstance(after[key], Mapping)
            patch[key] = merge_patch(before[key], after[key]) if both else after[key]
    return patch


def _container(arm: Object) -> dict[str, Any] | None:
    containers: list[dict[str, Any]] = list(arm.get("containers") or ())
    named = [item for item in containers if item.get("name") == _CONTAINER]
    if named:
        return named[0]
    return containers[0] if len(containers) == 1 else None


def _set_variable(container: dict[str, Any], name: str, value: str) -> None:
    environment: list[dict[str, Any]] = container.setdefault("env", [])
    for variable in environment:
        if variable.get("name") == name:
            variable.pop("valueFrom", None)
            variable["value"] = value
            return
    environment.append({"name": name, "value": value})
