"""What KServe's admission webhooks were seen to refuse and to fill in: rules of the stand-in.

Belongs here: the rules, on plain objects. Not here: the server that asks them (`webhooks`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MODE = "serving.kserve.io/deploymentMode"
STORAGE = "STORAGE_URI"

Object = Mapping[str, Any]


def storage_uri(predictor: Object) -> str:
    """Where a predictor's model comes from, empty when KServe does not fetch it."""
    if "model" in predictor:
        return str(predictor["model"].get("storageUri") or "")
    for container in predictor.get("containers") or ():
        for variable in container.get("env") or ():
            if variable["name"] == STORAGE:
                return str(variable.get("value") or "")
    return ""


def refusal(new: Object, old: Object | None) -> str | None:
    """Why an InferenceService is not taken, None when it is."""
    return next(_refusals(new, old), None)


def defaults(new: Object) -> list[dict[str, Any]]:
    """The JSON patch that fills in what the writer left out."""
    predictor = new["spec"]["predictor"]
    places = {"/spec/predictor": predictor} | {
        f"/spec/canary/{index}/predictor": item["predictor"]
        for index, item in enumerate(new["spec"].get("canary") or ())
    }
    return [
        {"op": "add", "path": f"{place}/model/protocolVersion", "value": "v2"}
        for place, arm in places.items()
        if "model" in arm and "protocolVersion" not in arm["model"]
    ]


def _refusals(new: Object, old: Object | None) -> Iterator[str]:
    predictor = new["spec"]["predictor"]
    if not ("model" in predictor) ^ bool(predictor.get("containers")):
        yield "Exactly one of model and containers must be specified in the predictor"
    mode = (new["metadata"].get("annotations") or {}).get(MODE)
    if old is not None:
        was = (old.get("status") or {}).get("deploymentMode")
        if mode and was and mode != was:
            yield f"update rejected: deploymentMode cannot be changed from '{was}' to '{mode}'"
        before = old["spec"]["predictor"]
        renamed = before.get("name") != predictor.get("name")
        if renamed and storage_uri(before) == storage_uri(predictor):
            yield "predictor.name change requires a model change (e.g. storageUri)"
    canaries = new["spec"].get("canary") or ()
    if canaries and mode != "Standard":
        yield "canary is only supported in Standard deployment mode"
    if canaries and "model" not in predictor and not storage_uri(predictor):
        yield "canary requires a stable predictor with a model"
    yield from _canaries(canaries, predictor)


def _canaries(canaries: Any, stable: Object) -> Iterator[str]:
    names: set[str] = set()
    for index, item in enumerate(canaries):
        arm, share = item["predictor"], item["trafficPercent"]
        name = arm.get("name") or ""
        if not name:
            yield f"canary[{index}] predictor.name is required"
        if name in names:
            yield f'canary predictor.name "{name}" is duplicated'
        names.add(name)
        if name == stable.get("name"):
            yield f'canary predictor.name "{name}" conflicts with stable predictor name'
        if not 0 <= share <= 100:
            yield f'canary "{name}" trafficPercent must be between 0 and 100, got {share}'
        for field in ("maxReplicas", "scaleTarget", "scaleMetric", "autoScaling"):
            if arm.get(field):
                yield f'canary "{name}" must not set {field} (canary uses fixed replicas)'
        least = stable.get("minReplicas", 1)
        if arm.get("minReplicas", 0) > least:
            yield (
                f'canary "{name}" minReplicas ({arm["minReplicas"]}) must not exceed stable '
                f"predictor minReplicas ({least})"
            )
    total = sum(item["trafficPercent"] for item in canaries)
    if total > 100:
        yield f"sum of canary trafficPercent values ({total}) must be <= 100"
