"""What the chart grants the operator is what it uses: no right more, none less.

The API server's audit log says what `davy operator serve` asked for, from the first look to the end
of its rollout and the replacement of a pod, with the rights of the rendered chart.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from kubernetes import client, utils
from tests.chart.rendering import CHART, clients_or_skip, rendered
from tests.cluster.bed.apiserver import ApiServer, running_apiserver
from tests.cluster.bed.crds import http_route_crd, inference_service_crd
from tests.cluster.bed.kserve_standin import KServeStandin, running_kserve_standin
from tests.cluster.bed.programs import find_programs
from tests.cluster.bed.services import eventually, service_in_new_namespace
from tests.cluster.bed.webhooks import kserve_webhooks
from tests.cluster.operator_bed import RolloutBed, StandInPrometheus, install, weight_served
from tests.cluster.test_operator_process import PATIENCE, USER, ProcessBed
from tests.fixtures.tiny_package import write_tiny_package

from davy.rollout.adapters.kube_pods import KubePods
from davy.rollout.adapters.kube_writes import KubernetesWrites

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(420)]

RIGHTS = {"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}
POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "users": [USER]}, {"level": "None"}],
}


@pytest.fixture(params=["gateway", "knative"])
def audited(
    apiserver: ApiServer, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[ApiServer, Path, str]]:
    """An API server of its own that writes down what the operator asks, its log, KServe's mode."""
    clients_or_skip()
    policy, log = tmp_path / "policy.yaml", tmp_path / "audit.log"
    policy.write_text(yaml.safe_dump(POLICY), encoding="utf-8")
    flags = (
        f"--audit-policy-file={policy}",
        f"--audit-log-path={log}",
        "--audit-log-mode=blocking",
    )
    with running_apiserver(find_programs(), tmp_path / "server", *flags) as server:
        for crd in (http_route_crd(), inference_service_crd()):
            server.install_crd(crd)
        install(server)
        with server.client() as api:
            client.CoreV1Api(api).create_namespace({"metadata": {"name": "davy"}})
            for item in rendered(CHART / "ci/default-values.yaml", f"mode={request.param}"):
                if item["kind"] in RIGHTS:
                    utils.create_from_dict(api, item)
        yield server, log, {"gateway": "Standard"}.get(request.param, "Knative")


def granted(server: ApiServer) -> set[tuple[str, str, str]]:
    """Return group, resource and verb of each right that the API server has of the chart."""
    found = set()
    with server.client() as api:
        rbac = client.RbacAuthorizationV1Api(api)
        for role in (
            rbac.read_cluster_role("davy-operator"),
            rbac.read_namespaced_role("davy-operator-lease", "davy"),
        ):
            for rule in role.rules:
                found |= {
                    (group, resource, verb)
                    for group in rule.api_groups
                    for resource in rule.resources
                    for verb in rule.verbs
                }
    return found


def asked(log: Path) -> tuple[set[tuple[str, str, str]], set[tuple[str, str, str]]]:
    """Return what was allowed and what was refused."""
    answers: dict[str, set[tuple[str, str, str]]] = {"allow": set(), "forbid": set()}
    for line in log.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        found = event.get("objectRef")
        if not found:
            continue  # discovery: everybody may
        sub = f"/{found['subresource']}" if found.get("subresource") else ""
        key = (found.get("apiGroup", ""), found["resource"] + sub, event["verb"])
        answers[event["annotations"]["authorization.k8s.io/decision"]].add(key)
    return answers["allow"], answers["forbid"]


def rolled_out(
    server: ApiServer, kserve: KServeStandin, mode: str, stack: ExitStack, folder: Path
) -> None:
    """Carry a rollout to its end, delete it, replace a pod, all as the operator."""
    package = write_tiny_package(folder / "made")
    version = package.contract.version
    service = stack.enter_context(service_in_new_namespace(server))
    service.create(mode)
    api = stack.enter_context(server.client())
    prometheus = StandInPrometheus(
        lambda: weight_served(kserve.observed.shares_in, service.namespace), canary=version
    )
    stack.callback(prometheus.close)
    kubeconfig = server.kubeconfig_for(USER)
    environment = {
        **{key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ},
        "KUBECONFIG": str(kubeconfig),
        "DAVY_OPERATOR_PROMETHEUS_URL": stack.enter_context(prometheus.over_http()),
        "DAVY_OPERATOR_STORE": str(folder / "made/store"),
        "DAVY_OPERATOR_DRAIN_SECONDS": "0.6",
    }
    rollout = RolloutBed(server, service, prometheus, api)
    operator = ProcessBed(rollout, environment, folder, stack, {}).start("operator")
    rollout.create(
        candidate={"version": version, "packageURI": "pvc://models/v2"},
        steps=[{"weight": 20}],
        analysis={
            "interval": "0.5s",
            "deadline": "10m",
            "vetoes": [],
            "indicators": [{"name": "errors", "allowance": 0.01}],
        },
    )
    eventually("it is promoted", lambda: rollout.status().phase == "Promoted", PATIENCE)
    resource = rollout.resource()
    rollout.delete()
    eventually("it is gone", lambda: rollout.resource() is None, PATIENCE)
    assert operator.end() == 0
    # Whether one pod alone carries a fail is a matter of many looks: asked for at once here.
    labels = {"serving.kserve.io/inferenceservice": service.name}
    container = {"name": "it", "image": "none:1"}
    pod = {"metadata": {"name": "worse", "labels": labels}, "spec": {"containers": [container]}}
    client.CoreV1Api(api).create_namespaced_pod(service.namespace, pod)
    assert resource is not None
    with server.client(kubeconfig) as own:
        assert KubePods(KubernetesWrites(own)).replace(resource, "worse")


def test_it_uses_every_right_and_asks_for_no_other(
    audited: tuple[ApiServer, Path, str], tmp_path: Path
) -> None:
    server, log, mode = audited
    with ExitStack() as stack:
        stack.enter_context(kserve_webhooks(server))
        kserve = stack.enter_context(running_kserve_standin(server))
        rolled_out(server, kserve, mode, stack, tmp_path)
    allowed, forbidden = asked(log)
    assert forbidden == set()
    assert allowed == granted(server)
