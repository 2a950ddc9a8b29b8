"""``davy rollout`` against a real API server: start, status, pause, promote, by a kubeconfig."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from tests.cluster.bed.apiserver import ApiServer
from typer.testing import CliRunner

from davy.cli.rollout import app
from davy.core.errors import ConfigurationError, ConflictError, InvalidInputError, NotFoundError
from davy.rollout.adapters.annotation_orders import AnnotationOrders
from davy.rollout.crd import GROUP, NAME, PLURAL, VERSION

pytestmark = pytest.mark.cluster

CRD = Path(__file__).parents[2] / "k8s/crds" / f"{NAME}.yaml"
SPEC = """
apiVersion: davylamp.dev/v1alpha1
kind: ModelRollout
metadata: {name: next-basket}
spec:
  inferenceServiceRef: {name: next-basket}
  candidate: {version: v2, packageURI: "s3://models/next-basket"}
  steps: [{weight: 5}, {weight: 50}]
  analysis: {indicators: [{name: errors, allowance: 0.001}]}
"""


@pytest.fixture
def namespace(apiserver: ApiServer, monkeypatch: pytest.MonkeyPatch) -> str:
    apiserver.install_crd(yaml.safe_load(CRD.read_text(encoding="utf-8")))
    monkeypatch.setenv("KUBECONFIG", str(apiserver.kubeconfig))
    monkeypatch.setattr(
        "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(apiserver.kubeconfig)
    )
    return apiserver.new_namespace()


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "rollout.yaml"
    path.write_text(SPEC)
    return path


def davy(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def test_a_rollout_is_started_shown_paused_and_promoted(
    apiserver: ApiServer, namespace: str, spec: Path
) -> None:
    started = davy("start", str(spec), "-n", namespace)
    assert started.exit_code == 0, started.exception
    assert f"modelrollout {namespace}/next-basket is there" in started.stdout
    again = davy("start", str(spec), "-n", namespace).exception
    assert isinstance(again, ConflictError)

    shown = davy("status", "next-basket", "-n", namespace)
    assert "phase    Pending (NotBegun)" in shown.stdout
    listed = davy("status", "-n", namespace)
    assert listed.stdout.startswith("next-basket          Pending")

    for kind in ("pause", "resume", "promote", "rollback"):
        asked = davy(kind, "next-basket", "-n", namespace, "--because", f"{kind} it", "--by", "me")
        assert asked.exit_code == 0, asked.exception
    with apiserver.client() as api:
        found: dict[str, Any] = client.CustomObjectsApi(api).get_namespaced_custom_object(
            GROUP, VERSION, namespace, PLURAL, "next-basket"
        )
    metadata = found["metadata"]
    orders = AnnotationOrders(metadata["annotations"]).read()
    assert [(item.kind, item.because) for item in orders] == [
        (kind, f"{kind} it") for kind in ("pause", "resume", "promote", "rollback")
    ]
    assert {item["manager"] for item in metadata["managedFields"]} == {"davy-cli"}


def test_what_the_server_refuses_and_what_is_not_there_is_said(namespace: str, spec: Path) -> None:
    missing = davy("status", "none", "-n", namespace).exception
    assert isinstance(missing, NotFoundError)
    assert "no such rollout (there: none)" in str(missing)
    context = davy("status", "--context", "nowhere").exception
    assert isinstance(context, ConfigurationError)
    assert "no such context" in str(context)
    spec.write_text(SPEC.replace("next-basket}\nspec", "Not_A_Name}\nspec"))
    refused = davy("start", str(spec), "-n", namespace).exception
    assert isinstance(refused, InvalidInputError)
