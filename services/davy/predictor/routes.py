"""The paths of the Open Inference Protocol, and what each GET answers.

Belongs here: path to what is asked, the documents that do not depend on a request.
Not here: inference, HTTP bodies and headers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from davy.core.errors import NotFoundError
from davy.packaging.contract import TensorSpec
from davy.predictor.catalogue import Catalogue

Kind = Literal[
    "server",
    "live",
    "ready",
    "model",
    "model_ready",
    "card",
    "infer",
    "explain",
    "index",
    "load",
    "unload",
]
SERVER_NAME = "davy"
EXTENSIONS = ("binary_tensor_data",)


@dataclass(frozen=True, slots=True)
class Route:
    """What a path asks for, and the one method that it takes."""

    kind: Kind
    model: str = ""
    version: str | None = None

    @property
    def methods(self) -> tuple[str, ...]:
        """HTTP methods of this route."""
        return ("GET", "HEAD") if self.kind in _READ else ("POST",)


_READ: frozenset[Kind] = frozenset({"server", "live", "ready", "model", "model_ready", "card"})
_SERVER: dict[tuple[str, ...], Route] = {
    (): Route("server"),
    ("health", "live"): Route("live"),
    ("health", "ready"): Route("ready"),
    ("repository", "index"): Route("index"),
}
_CHANGE: dict[str, Kind] = {"load": "load", "unload": "unload"}
_MODEL: dict[tuple[str, ...], Kind] = {
    (): "model",
    ("ready",): "model_ready",
    ("card",): "card",
    ("infer",): "infer",
    ("explain",): "explain",
}


def parse(path: str) -> Route:
    """Return what a path below ``/v2`` asks for.

    Raises
    ------
    NotFoundError
        The protocol has no such path.

    Examples
    --------
    >>> parse("/v2/models/next_basket/versions/1/infer")
    Route(kind='infer', model='next_basket', version='1')
    """
    parts = tuple(path.rstrip("/").split("/")[2:])
    route = _SERVER.get(parts)
    if route is not None:
        return route
    if parts[:2] == ("repository", "models") and len(parts) == 4 and parts[2]:
        change = _CHANGE.get(parts[3])
        if change is not None:
            return Route(change, parts[2])
    if len(parts) >= 2 and parts[0] == "models" and parts[1]:
        rest = parts[2:]
        version: str | None = None
        if len(rest) >= 2 and rest[0] == "versions" and rest[1]:
            version, rest = rest[1], rest[2:]
        kind = _MODEL.get(rest)
        if kind is not None:
            return Route(kind, parts[1], version)
    raise NotFoundError(
        "no such path",
        where=path,
        fix="Inference is POST /v2/models/NAME/infer",
    )


def document(
    route: Route, catalogue: Catalogue, *, ready: bool, server_version: str
) -> dict[str, Any]:
    """Return the JSON document that answers a GET.

    Raises
    ------
    NotFoundError
        The route names a model or version that is not served here.
    """
    if route.kind == "server":
        return {"name": SERVER_NAME, "version": server_version, "extensions": list(EXTENSIONS)}
    if route.kind == "live":
        return {"live": True}
    if route.kind == "ready":
        return {"ready": ready}
    served = catalogue.find(route.model, route.version)
    contract = served.plane.model.contract
    if route.kind == "model_ready":
        return {"name": contract.name, "ready": ready}
    return {
        "name": contract.name,
        "parameters": served.plane.model.describe(),
        "versions": list(catalogue.versions(contract.name)),
        "platform": "onnxruntime_onnx",
        "inputs": [_tensor(spec) for spec in contract.inputs],
        "outputs": [_tensor(spec) for spec in contract.outputs],
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}
