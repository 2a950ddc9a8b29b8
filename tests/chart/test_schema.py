"""What the schema of the values refuses, and that it knows every value."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from tests.chart.rendering import CHART, run
from tests.cluster.bed.clients import Clients

from davy.cli.chart_schema import settings

SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
VALUES = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("operater.replicas=2", "additional properties 'operater' not allowed"),
        ("operator.replica=2", "additional properties 'replica' not allowed"),
        ("operator.replicas=two", "got string, want integer"),
        ("operator.replicas=0", "minimum: got 0, want 1"),
        ("operator.image.tag=latest", "/operator/image/tag"),
        ("operator.image.digest=sha256:12", "/operator/image/digest"),
        ("operator.watchNamespaces={Models}", "/operator/watchNamespaces/0"),
        ("operator.settings.drian_seconds=3", "invalid propertyName 'drian_seconds'"),
        ("operator.settings.store=/x", "invalid propertyName 'store'"),
        ("servingRuntime.settings.pseudonymise_key=x", "invalid propertyName"),
        ("operator.prometheusUrl=prometheus:9090", "/operator/prometheusUrl"),
        ("mode=istio", "/mode"),
        ("detector.engine=other", "/detector/engine"),
        ("packages.claim=", "/packages/claim"),
        ("monitoring.interval=15", "/monitoring/interval"),
        ("rollouts.bindings[0].namespace=models", "/rollouts/bindings/0"),
        ("operator.resources.limits.memory=1Gi,operator.resources.requests=null", "/resources"),
    ],
)
def test_a_mistake_is_refused_before_anything_is_rendered(
    clients: Clients, given: str, said: str
) -> None:
    done = run(clients.helm, "template", "davy", CHART, "--set", given)
    assert done.returncode != 0
    assert "don't meet the specifications of the schema" in done.stderr
    assert said in done.stderr


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    return resolved(SCHEMA["$defs"][node["$ref"].split("/")[-1]]) if "$ref" in node else node


def check(values: dict[str, Any], node: dict[str, Any], path: str) -> None:
    node = resolved(node)
    if "properties" not in node:
        return
    assert node["additionalProperties"] is False, f"{path} takes unknown keys"
    assert set(values) == set(node["properties"]) - {"global"}, path
    for name, value in values.items():
        if isinstance(value, dict):
            check(value, node["properties"][name], f"{path}.{name}")


def test_values_and_schema_know_the_same_keys_everywhere() -> None:
    check(VALUES, SCHEMA, "values")


def test_settings_that_the_schema_takes_exist() -> None:
    # Fewer is no fault: a setting that came since is added by `make generate`, or goes in `env`.
    for part, names in settings().items():
        known = SCHEMA["$defs"][f"{part}Settings"]["propertyNames"]["enum"]
        assert set(known) <= set(names), f"{part}: run 'make generate'"
