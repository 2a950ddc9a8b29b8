"""``davy rollout`` against a real API server: start, status, pause, promote, by a kubeconfig."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from tests.cluster.bed.apiserver import ApiServer
from typer.testing import CliRunner

from davy.cli.rollout import app
from davy.core.clock import SystemClock
from davy.core.errors import ConfigurationError, ConflictError, InvalidInputError, NotFoundError
from davy.rollout.adapters.annotation_orders import AnnotationOrders
from davy.rollout.adapters.configmap_chunks import ConfigMapRecords
from davy.rollout.adapters.kube_rollouts import KubeRollouts
from davy.rollout.adapters.kube_writes import KubernetesWrites
from davy.rollout.crd import GROUP, NAME, PLURAL, VERSION
from davy.rollout.decide import decide
from davy.rollout.record import Header, look_line
from davy.rollout.spec import RolloutSpec
from davy.rollout.state import Observation, State
from davy.rollout.status import ModelRolloutStatus
from davy.rollout.verdict import Counts
from davy.rollout.vetoes import Veto

pytestmark = pytest.mark.cluster

CRD = Path(__file__).parents[2] / "k8s/crds" / f"{NAME}.yaml"
START = datetime(2017, 1, 2, tzinfo=UTC)
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
    orders = AnnotationOrders(metadata["annotations"], metadata["uid"]).read()
    assert [(item.kind, item.because) for item in orders] == [
        (kind, f"{kind} it") for kind in ("pause", "resume", "promote", "rollback")
    ]
    assert {item["manager"] for item in metadata["managedFields"]} == {"davy-cli"}


def looked_at(apiserver: ApiServer, namespace: str) -> None:
    """Leave what an operator leaves after some looks at a canary that fails: record and status."""
    with apiserver.client() as api:
        objects = KubernetesWrites(api)
        resources = KubeRollouts(objects, SystemClock())
        resource = resources.read(namespace, "next-basket")
        assert resource is not None
        spec, state = RolloutSpec.model_validate(resource.spec), State()
        header = Header(
            time=START, rollout="next-basket", generation=1, settings_hash=spec.settings_hash(),
            spec=spec.document(), stable="v1", canary="v2", latency_objective_seconds=0.1,
        )  # fmt: skip
        journal = ConfigMapRecords(objects, may_write=lambda: True).journal(resource, 1)
        journal.begin(header)
        quiet = tuple(Veto(name, active=False, message="") for name in spec.analysis.vetoes)
        for look in range(3):
            now = START + timedelta(seconds=30 * look)
            counts = Counts(1900, 2, 100, 40) if look else Counts(2000, 2, 0, 0)
            seen = Observation(
                weight=state.weight, counts={"errors": counts},
                start=now.timestamp() - 30, end=now.timestamp(),
                honoured=now.timestamp() - 30, vetoes=quiet,
            )  # fmt: skip
            decision = decide(spec, state, seen, now)
            journal.append(look_line(header, state.weight, seen, decision, now))
            state = decision.state
        status = ModelRolloutStatus(phase="RolledBack", looks=3, step=1, last_look_time=now)
        resources.write_status(resource, status)


def test_the_record_of_a_cluster_is_shown_replayed_and_explained(
    apiserver: ApiServer, namespace: str, spec: Path, tmp_path: Path
) -> None:
    assert davy("start", str(spec), "-n", namespace).exit_code == 0
    early = davy("explain", "next-basket", "-n", namespace).exception
    assert isinstance(early, NotFoundError)
    assert "has no decision record yet" in str(early)
    looked_at(apiserver, namespace)
    assert "3 looks recomputed" in davy("replay", "next-basket", "-n", namespace).stdout
    picture = tmp_path / "bounds.svg"
    told = davy("explain", "next-basket", "-n", namespace, "--picture", str(picture))
    assert told.exit_code == 0, told.exception
    assert "Rolled back: from 5 % to 0 %" in told.stdout
    assert "allowed 0.1 %" in picture.read_text()
    watched = davy("watch", "next-basket", "-n", namespace)
    assert watched.stdout.splitlines()[-1] == "next-basket: RolledBack"
    shown = davy("status", "next-basket", "-n", namespace).stdout
    assert "errors: fail  80 in 200 requests" in shown


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
