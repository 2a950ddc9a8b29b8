"""The CustomResourceDefinition of ModelRollout, made from the models of its spec and status.

Belongs here: turning a pydantic JSON Schema into a structural one, CEL rules, printer columns.
Not here: the models (`davy.rollout.spec`, `davy.rollout.status`).

Write it with ``python -m davy.rollout.crd k8s/crds``. Everything that `davy.rollout.spec` refuses
and that the API server can express is refused there too, before anybody acts on it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter

from davy.core.files import write_atomic
from davy.rollout.crd_additions import NO_DEFAULT, SPEC_ADDITIONS
from davy.rollout.spec import KIND, RolloutSpec
from davy.rollout.status import ModelRolloutStatus

GROUP, VERSION = "davylamp.dev", "v1alpha1"
PLURAL = "modelrollouts"
NAME = f"{PLURAL}.{GROUP}"

# A structural schema is what these say; all else (titles, tuples, closed objects) has no place in
# it: the API server drops unknown fields, and kubectl refuses them before.
_KEPT = (
    "type",
    "format",
    "description",
    "default",
    "enum",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "pattern",
    "required",
)

DURATION = "^([0-9]+h)?([0-9]+m)?([0-9]+([.][0-9]+)?s)?$"

COLUMNS = (
    ("Phase", "string", ".status.phase", "Where it stands", 0),
    ("Service", "string", ".spec.inferenceServiceRef.name", "InferenceService", 0),
    ("Candidate", "string", ".spec.candidate.version", "Version that is to take over", 0),
    ("Weight", "integer", ".status.weights.canary", "Share of the canary, read back", 0),
    (
        "Reason",
        "string",
        '.status.conditions[?(@.type=="Progressing")].reason',
        "Why it stands there",
        0,
    ),
    ("Step", "integer", ".status.step", "Step of the spec", 1),
    ("Looks", "integer", ".status.looks", "Looks that were taken", 1),
    (
        "Message",
        "string",
        '.status.conditions[?(@.type=="Progressing")].message',
        "The same for people",
        1,
    ),
    ("Age", "date", ".metadata.creationTimestamp", "", 0),
)


def structural(schema: Mapping[str, Any], *, path: str) -> dict[str, Any]:
    """Return a JSON Schema of pydantic as a structural OpenAPI v3 schema.

    Parameters
    ----------
    schema : mapping
        With its ``$defs``.
    path : str
        Its place in the resource, by which `SPEC_ADDITIONS` are found.

    Raises
    ------
    NotImplementedError
        It holds what a structural schema cannot say; names the place.
    """
    return _convert(schema, schema.get("$defs", {}), path)


def _convert(node: Mapping[str, Any], models: Mapping[str, Any], path: str) -> dict[str, Any]:
    node = _resolved(node, models, path)
    found: dict[str, Any] = {key: node[key] for key in _KEPT if key in node}
    if "const" in node:
        found["enum"] = [node["const"]]
    if "description" in found:
        found["description"] = " ".join(found["description"].replace("``", "").split())
    for bound, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if bound in node:
            found |= {limit: node[bound], bound: True}
    if "default" in found:
        found["default"] = _default(node)
    if found.get("default") is None or path in NO_DEFAULT:
        found.pop("default", None)
    if node.get("type") == "object":
        found["properties"] = {
            name: _convert(item, models, f"{path}.{name}")
            for name, item in node.get("properties", {}).items()
        }
        if "default" in found:
            # In the same words as those of its fields.
            fields = found["properties"].items()
            found["default"] = {name: item["default"] for name, item in fields if "default" in item}
    if node.get("type") == "array":
        found["items"] = _convert(node["items"], models, f"{path}[]")
        found["x-kubernetes-list-type"] = "atomic"
    if found.get("format") == "duration":
        # The API server would take "-5s" and "1.5h" too, which `parse_duration` does not.
        found |= {"pattern": DURATION, "minLength": 2, "maxLength": 32}
    if "type" not in found:
        raise NotImplementedError(f"{path}: no single type: {sorted(node)}")
    return {**found, **SPEC_ADDITIONS.get(path, {})}


def _resolved(node: Mapping[str, Any], models: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Follow references, and take the one type of what may also be left out."""
    found = dict(node)
    if "anyOf" in found:
        real = [item for item in found.pop("anyOf") if item.get("type") != "null"]
        if len(real) != 1:
            raise NotImplementedError(f"{path}: a choice of {len(real)} types")
        found = {**real[0], **found}
    if "$ref" in found:
        model = models[found.pop("$ref").rpartition("/")[2]]
        return {**_resolved(model, models, path), **found}
    return found


def _default(node: Mapping[str, Any]) -> Any:
    value = node["default"]
    if node.get("format") == "duration" and value is not None:
        return _in_units(TypeAdapter(timedelta).validate_python(value))
    return value if value != [] else None


def _in_units(value: timedelta) -> str:
    seconds = value.total_seconds()
    for unit, length in (("h", 3600), ("m", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g}{unit}"
    return f"{seconds:g}s"


def definition() -> dict[str, Any]:
    """Return the CustomResourceDefinition."""
    spec = structural(RolloutSpec.model_json_schema(by_alias=True), path="spec")
    status = structural(ModelRolloutStatus.model_json_schema(by_alias=True), path="status")
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": NAME},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["mr"],
                "categories": ["davy"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(*column) for column in COLUMNS],
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "description": "A canary of an InferenceService that takes over, or "
                            "goes, on evidence.",
                            "required": ["spec"],
                            "properties": {
                                "apiVersion": {"type": "string"},
                                "kind": {"type": "string"},
                                "metadata": {
                                    "type": "object",
                                    # Names the objects that hold its record.
                                    "properties": {"name": {"type": "string", "maxLength": 63}},
                                },
                                "spec": spec,
                                "status": _without_defaults(status),
                            },
                        }
                    },
                }
            ],
        },
    }


def _column(name: str, kind: str, path: str, about: str, priority: int) -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path}
    if about:
        column["description"] = about
    return column | ({"priority": priority} if priority else {})


def _without_defaults(node: dict[str, Any]) -> dict[str, Any]:
    """Take the defaults out: a status says what was written to it, and nothing else."""
    found = {key: value for key, value in node.items() if key != "default"}
    if "properties" in found:
        items = found["properties"].items()
        found["properties"] = {name: _without_defaults(item) for name, item in items}
    if "items" in found:
        found["items"] = _without_defaults(found["items"])
    return found


class _Plain(yaml.SafeDumper):
    """Writes what is there twice twice: not every reader of a manifest knows aliases."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 (yaml's signature)
        """Return that nothing is an alias."""
        return True


def document() -> str:
    """Return the text of the committed file."""
    head = "# Made by python -m davy.rollout.crd k8s/crds\n"
    return head + yaml.dump(definition(), Dumper=_Plain, sort_keys=False, width=100)


def main(folder: Path) -> None:
    """Write it into `folder`."""
    write_atomic(folder / f"{NAME}.yaml", document())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
