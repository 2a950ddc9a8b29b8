"""The chart and the manifests as the programs render them.

Belongs here: running helm and kubectl. Not here: what is expected of the objects.
"""

from __future__ import annotations

import json
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.bed.clients import Clients, find_clients
from tests.cluster.bed.programs import SETTING, ProgramsMissingError

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm/davy"
VALUES = sorted((CHART / "ci").glob("*-values.yaml"))
NAMESPACE = "davy"

Object = dict[str, Any]


def clients_or_skip() -> Clients:
    """Return the programs; without them the test is skipped, with the command that builds them."""
    try:
        return find_clients()
    except ProgramsMissingError as error:
        if os.environ.get(SETTING) in {"build", "require"}:
            pytest.fail(str(error))
        pytest.skip(str(error))


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, whatever that is."""
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, timeout=120
    )


@cache
def rendered(values: Path | None = None, *sets: str, hooks: bool = False) -> tuple[Object, ...]:
    """Return the objects of the chart with a values file and further ``--set``."""
    clients: Clients = find_clients()
    more = ["-f", str(values)] if values else []
    more += [part for item in sets for part in ("--set", item)]
    more += [] if hooks else ["--no-hooks"]
    done = run(clients.helm, "template", "davy", CHART, "-n", NAMESPACE, *more)
    assert done.returncode == 0, done.stderr
    return tuple(item for item in yaml.safe_load_all(done.stdout) if item)


def kustomized(folder: Path) -> tuple[Object, ...]:
    """Return the objects of a kustomization."""
    done = run(find_clients().kubectl, "kustomize", folder)
    assert done.returncode == 0, done.stderr
    return tuple(item for item in yaml.safe_load_all(done.stdout) if item)


def by_name(objects: tuple[Object, ...]) -> dict[tuple[str, str, str], Object]:
    """Return objects by kind, namespace and name; none is there twice."""
    found = {}
    for item in objects:
        metadata = item["metadata"]
        key = (item["kind"], metadata.get("namespace", ""), metadata["name"])
        assert key not in found, f"twice: {key}"
        found[key] = item
    return found


def pod_specs(objects: tuple[Object, ...]) -> dict[str, Object]:
    """Return the pod specs in objects by kind and name; a runtime's too."""
    found = {}
    for item in objects:
        spec = item.get("spec") or {}
        inner = spec["template"]["spec"] if "template" in spec else spec
        if "containers" in inner:
            found[f"{item['kind']}/{item['metadata']['name']}"] = inner
    return found


def copied(item: Object) -> Object:
    """Return an object that may be changed."""
    again: Object = json.loads(json.dumps(item))
    return again
