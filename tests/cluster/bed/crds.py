"""CustomResourceDefinitions of what the tests need: KServe's from its SDK, a small HTTPRoute.

Belongs here: making the documents. Not here: installing them (`ApiServer.install_crd`).

The SDK's model classes say names, types and what is required; their source is read, because
importing the package takes seconds. What Kubernetes itself defines (containers, volumes) and the
model classes that nothing here writes keep whatever they are given.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from functools import cache
from pathlib import Path
from typing import Any

Schema = dict[str, Any]

LOOSE: Schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
# Those whose fields a rollout reads or writes; the others stay loose.
STRICT = {
    "V1alpha1ServingRuntimeSpec",
    "V1alpha1SupportedModelFormat",
    "V1beta1CanarySpec",
    "V1beta1CanaryStatus",
    "V1beta1ComponentStatusSpec",
    "V1beta1InferenceServiceSpec",
    "V1beta1InferenceServiceStatus",
    "V1beta1ModelFormat",
    "V1beta1ModelSpec",
    "V1beta1PredictorSpec",
}
PLAIN: dict[str, Schema] = {
    "KnativeURL": {"type": "string"},
    "KnativeVolatileTime": {"type": "string"},
    "ResourceQuantity": {"x-kubernetes-int-or-string": True},
    "bool": {"type": "boolean"},
    "float": {"type": "number"},
    "int": {"type": "integer"},
    "str": {"type": "string"},
}


def inference_service_crd(*, canary: bool = True, minimal: bool = False) -> Schema:
    """Return the CRD of InferenceServices.

    Parameters
    ----------
    canary : bool
        Whether it has ``spec.canary``, as KServe's has since 0.20.
    minimal : bool
        Like the one that KServe ships without a schema, where ``spec`` is one atomic map.
    """
    if minimal:
        loose = {**LOOSE, "x-kubernetes-map-type": "atomic"}
        spec, status = loose, loose
    else:
        spec = _object("V1beta1InferenceServiceSpec")
        status = _object("V1beta1InferenceServiceStatus")
        if not canary:
            del spec["properties"]["canary"]
    return _crd("serving.kserve.io", "v1beta1", "InferenceService", ["isvc"], spec, status)


def serving_runtime_crd() -> Schema:
    """Return the CRD of ClusterServingRuntimes; what is in a container is kept as given."""
    spec = _object("V1alpha1ServingRuntimeSpec")
    crd = _crd("serving.kserve.io", "v1alpha1", "ClusterServingRuntime", [], spec, LOOSE)
    crd["spec"]["scope"] = "Cluster"
    return crd


def http_route_crd() -> Schema:
    """Return a CRD of HTTPRoutes with the fields that a split has; the rest is kept as given."""
    backend: Schema = {
        "type": "object",
        "required": ["name"],
        "x-kubernetes-preserve-unknown-fields": True,
        "properties": {
            "name": {"type": "string"},
            "port": {"type": "integer"},
            "weight": {"type": "integer", "minimum": 0, "maximum": 1_000_000, "default": 1},
        },
    }
    rule: Schema = {
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": True,
        "properties": {"backendRefs": {"type": "array", "items": backend}},
    }
    spec = {**LOOSE, "properties": {"rules": {"type": "array", "items": rule}}}
    crd = _crd("gateway.networking.k8s.io", "v1", "HTTPRoute", [], spec, LOOSE)
    # The API server asks for it on every CRD of a group under k8s.io.
    note = "https://github.com/kubernetes-sigs/gateway-api/pull/4530"
    crd["metadata"]["annotations"] = {"api-approved.kubernetes.io": note}
    return crd


def _crd(
    group: str, version: str, kind: str, short: list[str], spec: Schema, status: Schema
) -> Schema:
    plural = f"{kind.lower()}s"
    names = {
        "kind": kind,
        "listKind": f"{kind}List",
        "plural": plural,
        "singular": kind.lower(),
        "shortNames": short,
    }
    schema = {
        "type": "object",
        "required": ["spec"],
        "properties": {"spec": spec, "status": status},
    }
    served = {
        "name": version,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": schema},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [served]},
    }


def _object(model: str) -> Schema:
    types, names, required = _model(model)
    schema: Schema = {
        "type": "object",
        "properties": {names[field]: _type(kind) for field, kind in types.items()},
    }
    if required:
        schema["required"] = sorted(names[field] for field in required)
    return schema


def _type(kind: str) -> Schema:
    if kind in PLAIN:
        return dict(PLAIN[kind])
    if match := re.fullmatch(r"list\[(.+)\]", kind):
        return {"type": "array", "items": _type(match[1])}
    if match := re.fullmatch(r"dict\(str, (.+)\)", kind):
        return {"type": "object", "additionalProperties": _type(match[1])}
    return _object(kind) if kind in STRICT else dict(LOOSE)


@cache
def _model(name: str) -> tuple[dict[str, str], dict[str, str], frozenset[str]]:
    """Return a model's types and JSON names by field, and the fields that may not be None."""
    tree = ast.parse(_source(name))
    tables = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id in {"openapi_types", "attribute_map"}
    }
    texts = (
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    refused = re.compile(r"Invalid value for `(\w+)`, must not be `None`")
    required = frozenset(match[1] for text in texts if (match := refused.match(text)))
    return tables["openapi_types"], tables["attribute_map"], required


def _source(name: str) -> str:
    found = importlib.util.find_spec("kserve")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("kserve is not installed: it is in the dev set")
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
    return (Path(found.origin).parent / "models" / f"{words}.py").read_text(encoding="utf-8")
