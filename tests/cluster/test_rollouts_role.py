"""The role davy-rollouts is enough for a person or a pipeline to make, read and order rollouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from tests.cluster.bed.apiserver import ApiServer
from tests.cluster.operator_bed import install, rollout_document
from typer.testing import CliRunner

from davy.cli import main as root
from davy.core.errors import ConfigurationError, NotFoundError

pytestmark = pytest.mark.cluster

ROLE = Path(__file__).parents[2] / "k8s/base/rollouts/clusterrole.yaml"


@pytest.fixture
def namespace(apiserver: ApiServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """A namespace in which a pipeline's service account has that role, and is who asks."""
    install(apiserver)
    name = apiserver.new_namespace("ordered")
    role = yaml.safe_load(ROLE.read_text(encoding="utf-8"))
    role["metadata"] = {"name": f"davy-rollouts-{name}"}
    user = f"system:serviceaccount:{name}:pipeline-runner"
    binding = {
        "metadata": {"name": "davy-rollouts"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": role["metadata"]["name"],
        },
        "subjects": [{"kind": "ServiceAccount", "name": "pipeline-runner", "namespace": name}],
    }
    with apiserver.client() as api:
        rbac = client.RbacAuthorizationV1Api(api)
        rbac.create_cluster_role(role)
        rbac.create_namespaced_role_binding(name, binding)
    kubeconfig = str(apiserver.kubeconfig_for(user))
    monkeypatch.setenv("KUBECONFIG", kubeconfig)
    location = "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION"
    monkeypatch.setattr(location, kubeconfig)
    return name


def davy(*arguments: str) -> Any:
    return CliRunner().invoke(root.build(), list(arguments))


def test_rollouts_are_made_read_and_ordered(namespace: str, tmp_path: Path) -> None:
    document = rollout_document("demo")
    spec = tmp_path / "rollout.yaml"
    spec.write_text(yaml.safe_dump(document))
    place = ("take-over", "-n", namespace)
    assert davy("rollout", "start", str(spec), "-n", namespace).exit_code == 0
    assert davy("rollout", "status", "-n", namespace).exit_code == 0
    assert davy("rollout", "status", *place).exit_code == 0
    for kind in ("pause", "resume", "rollback"):
        asked = davy("rollout", kind, *place, "--because", "it is tried", "--by", "a pipeline")
        assert asked.exit_code == 0, asked.exception
    # It may read records: that there is none yet is no question of rights.
    none = davy("operator", "record", *place).exception
    assert isinstance(none, NotFoundError)
    assert "has no record yet" in str(none)


def test_the_doctor_finds_those_rights_and_they_end_at_the_namespace(
    apiserver: ApiServer, namespace: str
) -> None:
    def rights(place: str) -> str:
        said = davy("doctor", "--cluster", "-n", place, "--prometheus", "http://127.0.0.1:1").stdout
        (line,) = (line for line in said.splitlines() if "rights of yours" in line)
        return str(line)

    assert rights(namespace).startswith("ok")
    other = apiserver.new_namespace("other")
    assert rights(other).startswith("fail")
    refused = davy("rollout", "status", "-n", other).exception
    assert isinstance(refused, ConfigurationError)
    assert "forbidden" in str(refused)
