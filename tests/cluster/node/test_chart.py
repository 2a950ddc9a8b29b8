"""The chart on a node: pods that are ready where `restricted` is enforced, and `helm test`.

KServe's resources are there, its controller is stood in for; the pods, the rights, Prometheus and
the API server are real.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client
from tests.chart.rendering import CHART, clients_or_skip
from tests.cluster.bed.crds import serving_runtime_crd
from tests.cluster.node.cluster import Cluster
from tests.cluster.node.installed import BASE

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]

RELEASE, NAMESPACE, WATCHED = "davy-chart", "chart", "chart-models"


@pytest.fixture
def chart(cluster: Cluster, tmp_path: Path) -> Iterator[Cluster]:
    """Namespaces and claims for the chart; taken away at the end."""
    cluster.node.server.install_crd(serving_runtime_crd())
    core = client.CoreV1Api(cluster.api)
    level = {"pod-security.kubernetes.io/enforce": "restricted"}
    for name in (NAMESPACE, WATCHED):
        core.create_namespace({"metadata": {"name": name, "labels": level}})
    store = cluster.folder / "store"
    store.mkdir(parents=True, exist_ok=True)
    state = tmp_path / "state"
    state.mkdir()
    # The pod's user is not this machine's.
    state.chmod(0o777)
    cluster.claim(NAMESPACE, "davy-packages", store)
    cluster.claim(NAMESPACE, f"state-{RELEASE}-detector-0", state, writable=True)
    try:
        yield cluster
    finally:
        for name in (NAMESPACE, WATCHED):
            cluster.remove_namespace(name)


def helm(cluster: Cluster, *command: str) -> str:
    done = subprocess.run(
        [str(clients_or_skip().helm), "--namespace", NAMESPACE, *command],
        env={**os.environ, "KUBECONFIG": str(cluster.node.server.kubeconfig)},
        cwd=BASE, capture_output=True, text=True, check=False, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_pods_are_ready_and_the_doctor_finds_nothing_in_the_way(chart: Cluster) -> None:
    sets = {
        "operator.prometheusUrl": chart.node.settings.prometheus_url,
        "operator.watchNamespaces": f"{{{WATCHED}}}",
        "servingRuntime.name": RELEASE,
        "detector.engine": "native",
        # Volumes are made by hand on the node: no class of storage does it.
        "detector.state.storageClassName": "",
    }
    for part in ("operator", "detector"):
        sets[f"{part}.image.repository"], _, sets[f"{part}.image.tag"] = chart.images[
            part
        ].rpartition(":")
    values = [word for name, value in sets.items() for word in ("--set", f"{name}={value}")]
    # The resource is there already: others' tests have installed it.
    wait = ("--wait", "--timeout", "5m", "--take-ownership")
    helm(chart, "install", RELEASE, str(CHART), *values, *wait)
    apps = client.AppsV1Api(chart.api)
    operator = apps.read_namespaced_deployment(f"{RELEASE}-operator", NAMESPACE)
    assert operator.status.ready_replicas == 2
    assert apps.read_namespaced_stateful_set(
        f"{RELEASE}-detector", NAMESPACE
    ).status.ready_replicas == 1  # fmt: skip
    said = helm(chart, "test", RELEASE, "--logs", "--timeout", "3m")
    assert "Succeeded" in said
    assert "leads, renewed" in said
    assert "ok    rights of the operator" in said
    assert " 0 fail" in said
    helm(chart, "uninstall", RELEASE, "--wait")
    assert apps.list_namespaced_deployment(NAMESPACE).items == []
