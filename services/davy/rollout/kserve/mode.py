"""Which of KServe's modes an InferenceService is in, and whether a canary is possible there.

Belongs here: the decision, from objects. Not here: fetching them (`adapters.kserve_detect`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

from davy.rollout.kserve import service as isvc
from davy.rollout.kserve.moves import UNSUPPORTED, Refuse, Wait


class Mode(StrEnum):
    """How KServe runs an InferenceService."""

    STANDARD = "Standard"
    KNATIVE = "Knative"


# The names before KServe 0.16.
_OLD_NAMES = {"RawDeployment": Mode.STANDARD, "Serverless": Mode.KNATIVE}


def mode_of(
    service: isvc.Object,
    crd: Mapping[str, Any] | None,
    wanted: Literal["Auto", "Knative", "Standard"],
) -> Mode | Refuse | Wait:
    """Return the mode, or why no rollout is possible.

    Parameters
    ----------
    service : mapping
        The InferenceService.
    crd : mapping, optional
        The CustomResourceDefinition of InferenceServices; None when it may not be read.
    wanted : str
        What the rollout's spec says of ``traffic``.
    """
    name = _declared(service)
    if not name:
        return Wait("KServe has not looked at it yet: its status names no deploymentMode")
    try:
        mode = _OLD_NAMES[name] if name in _OLD_NAMES else Mode(name)
    except ValueError:
        return Refuse(
            UNSUPPORTED,
            f"deploymentMode {name} has no canaries",
            "Use Standard or Knative mode",
        )
    if wanted not in {"Auto", mode}:
        return Refuse(
            UNSUPPORTED,
            f"it is in {mode} mode, and the rollout asks for traffic: {wanted}",
            f"Set traffic to Auto or {mode}",
        )
    if mode == Mode.STANDARD and crd is not None and not takes_canary(crd):
        return Refuse(
            UNSUPPORTED,
            "the installed KServe has no spec.canary: Standard mode splits no traffic there",
            "Upgrade KServe to 0.21, its CRDs too, or use Knative mode",
        )
    return mode


def takes_canary(crd: Mapping[str, Any]) -> bool:
    """Say whether a CRD knows ``spec.canary``; one that keeps unknown fields is given its chance.

    KServe also ships CRDs without a schema. With those only the routes tell whether a weight is
    followed.
    """
    for version in crd["spec"].get("versions") or ():
        if version.get("name") != "v1beta1":
            continue
        schema = (version.get("schema") or {}).get("openAPIV3Schema") or {}
        spec = (schema.get("properties") or {}).get("spec") or {}
        properties = spec.get("properties") or {}
        loose = bool(spec.get("x-kubernetes-preserve-unknown-fields")) and not properties
        return loose or "canary" in properties
    return False


def _declared(service: isvc.Object) -> str:
    status = (service.get("status") or {}).get("deploymentMode")
    annotation = (service["metadata"].get("annotations") or {}).get(isvc.MODE_ANNOTATION)
    return str(status or annotation or "")
