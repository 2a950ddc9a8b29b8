"""JSON schemas for kubeconform, made of what an API server says of itself.

Belongs here: turning its OpenAPI definitions into strict JSON schemas, one file a kind.
Not here: running kubeconform.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# As kubeconform fills it in.
LOCATION = "{{ .Group }}_{{ .ResourceKind }}_{{ .ResourceAPIVersion }}.json"
_DEFINITIONS = "definitions.json"
# "format" is left out: JSON Schema gives some of those names another meaning.
_PLAIN = ("type", "required", "enum", "pattern", "minimum", "maximum", "minItems", "maxItems")
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"


def write_schemas(openapi: Mapping[str, Any], folder: Path) -> None:
    """Write the schemas of all kinds of an OpenAPI v2 document into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    definitions = {name: _strict(item) for name, item in openapi["definitions"].items()}
    definitions[_QUANTITY] = {"type": ["string", "number"]}
    (folder / _DEFINITIONS).write_text(json.dumps({"definitions": definitions}), encoding="utf-8")
    for name, item in openapi["definitions"].items():
        for kind in item.get("x-kubernetes-group-version-kind") or ():
            # The core group has none, for which kubeconform takes the version.
            group = kind["group"] or kind["version"]
            file = f"{group}_{kind['kind'].lower()}_{kind['version']}.json"
            reference = {"$ref": f"{_DEFINITIONS}#/definitions/{name}"}
            (folder / file).write_text(json.dumps(reference), encoding="utf-8")


def _strict(node: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse fields that are not named, as the API server does when it validates strictly."""
    if isinstance(node.get("$ref"), str):
        return {"$ref": node["$ref"]}
    if node.get("format") == "int-or-string" or node.get("x-kubernetes-int-or-string"):
        return {"type": ["string", "integer"]}
    found = {key: node[key] for key in _PLAIN if key in node}
    if "properties" in node:
        found["properties"] = {name: _strict(item) for name, item in node["properties"].items()}
        found["additionalProperties"] = bool(node.get("x-kubernetes-preserve-unknown-fields"))
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), Mapping):
            found[key] = _strict(node[key])
    return found
