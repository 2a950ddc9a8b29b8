"""What the operator may do, cluster-wide and in some namespaces alone.

That the rights of the base are enough is shown by a test that runs the operator with them.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

K8S = Path(__file__).parents[3] / "k8s"
SUBJECT = [{"kind": "ServiceAccount", "name": "davy-operator", "namespace": "davy"}]
# What an API server serves outside namespaces: a RoleBinding cannot give it.
CLUSTER_SCOPED = {"customresourcedefinitions"}
KUBECTL = shutil.which("kubectl")


@pytest.fixture(scope="module")
def rendered() -> list[dict[str, Any]]:
    if KUBECTL is None:
        pytest.skip("no kubectl to render the overlay with")
    command = [KUBECTL, "kustomize", str(K8S / "overlays" / "namespaced")]
    found = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return list(yaml.safe_load_all(found.stdout))


def base() -> list[dict[str, Any]]:
    text = (K8S / "base" / "operator" / "rbac.yaml").read_text(encoding="utf-8")
    return list(yaml.safe_load_all(text))


def named(objects: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {item["metadata"]["name"]: item for item in objects if item["kind"] == kind}


def test_across_namespaces_the_overlay_reads_one_definition_and_no_more(
    rendered: list[dict[str, Any]],
) -> None:
    bindings, roles = named(rendered, "ClusterRoleBinding"), named(rendered, "ClusterRole")
    assert set(bindings) == {"davy-operator-cluster"}
    assert bindings["davy-operator-cluster"]["subjects"] == SUBJECT
    rules = roles[bindings["davy-operator-cluster"]["roleRef"]["name"]]["rules"]
    assert len(rules) == 1
    assert rules[0]["verbs"] == ["get"]
    assert rules[0]["resourceNames"] == ["inferenceservices.serving.kserve.io"]


def test_in_a_watched_namespace_it_gives_all_that_the_base_gives(
    rendered: list[dict[str, Any]],
) -> None:
    wide = named(base(), "ClusterRole")["davy-operator"]
    binding = named(rendered, "RoleBinding")["davy-operator"]
    assert binding["roleRef"] == {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "ClusterRole",
        "name": "davy-operator",
    }
    assert binding["subjects"] == SUBJECT
    assert named(rendered, "ClusterRole")["davy-operator"]["rules"] == wide["rules"]


def test_what_belongs_to_no_namespace_is_given_by_the_overlay_as_well(
    rendered: list[dict[str, Any]],
) -> None:
    wide = named(base(), "ClusterRole")["davy-operator"]["rules"]
    scoped = [rule for rule in wide if CLUSTER_SCOPED & set(rule["resources"])]
    assert scoped
    assert named(rendered, "ClusterRole")["davy-operator-cluster"]["rules"] == scoped
