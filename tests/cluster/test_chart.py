"""The chart and the manifests on a real API server: taken strictly, admitted, upgraded, taken away.

No controller runs there: no pod is started. Those who serve resources that the chart uses (KServe,
the Prometheus operator) are there as their CustomResourceDefinitions alone.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from tests.chart.rendering import (
    CHART,
    ROOT,
    VALUES,
    Object,
    clients_or_skip,
    copied,
    pod_specs,
    rendered,
)
from tests.cluster.bed.apiserver import ApiServer
from tests.cluster.bed.clients import Clients
from tests.cluster.bed.crds import inference_service_crd, serving_runtime_crd
from tests.cluster.bed.json_schemas import LOCATION, write_schemas
from tests.cluster.operator_bed import install, rollout_document

pytestmark = pytest.mark.cluster

RESTRICTED = "pod-security.kubernetes.io/enforce"


@pytest.fixture(scope="session")
def clients() -> Clients:
    return clients_or_skip()


@pytest.fixture(scope="session")
def server(apiserver: ApiServer, clients: Clients) -> ApiServer:
    """The API server with the resources that the chart's objects are of."""
    install(apiserver)
    for path in sorted(clients.monitoring.glob("*.yaml")):
        apiserver.install_crd(yaml.safe_load(path.read_text(encoding="utf-8")))
    apiserver.install_crd(serving_runtime_crd())
    apiserver.install_crd(inference_service_crd())
    with apiserver.client() as api:
        for name in ("davy", "models", "shop", "search"):
            try:
                client.CoreV1Api(api).create_namespace({"metadata": {"name": name}})
            except client.ApiException as error:
                if error.status != 409:
                    raise
    return apiserver


def call(server: ApiServer, *command: str | Path, text: str = "") -> str:
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, "KUBECONFIG": str(server.kubeconfig)},
        input=text, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Warning" not in done.stderr, done.stderr
    return done.stdout


def dumped(objects: tuple[Object, ...]) -> str:
    return yaml.safe_dump_all(objects, sort_keys=False)


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_the_api_server_takes_every_object_strictly(
    server: ApiServer, clients: Clients, values: Path
) -> None:
    objects = rendered(values, hooks=True)
    said = call(
        server, clients.kubectl, "apply", "--server-side", "--dry-run=server",
        "--validate=strict", "--force-conflicts", "-f", "-", text=dumped(objects),
    )  # fmt: skip
    assert len(said.splitlines()) == len(objects)


@pytest.mark.parametrize("overlay", ["gateway", "knative", "namespaced"])
def test_the_api_server_takes_every_overlay_strictly(
    server: ApiServer, clients: Clients, overlay: str
) -> None:
    said = call(
        server, clients.kubectl, "apply", "--server-side", "--dry-run=server",
        "--validate=strict", "-k", ROOT / "k8s/overlays" / overlay,
    )  # fmt: skip
    assert "deployment.apps/davy-operator serverside-applied (server dry run)" in said


def test_a_misspelt_field_would_be_refused(server: ApiServer, clients: Clients) -> None:
    found = copied(next(i for i in rendered(VALUES[0]) if i["kind"] == "Deployment"))
    found["spec"]["template"]["spec"]["serviceAcountName"] = "x"
    with pytest.raises(AssertionError, match="serviceAcountName"):
        call(
            server, clients.kubectl, "apply", "--server-side", "--dry-run=server",
            "--validate=strict", "-f", "-", text=dumped((found,)),
        )  # fmt: skip


def as_pod(name: str, spec: Object) -> Object:
    """Return what a controller would make of a template; a claim's volume as the StatefulSet's."""
    spec = copied(spec)
    allowed = {"containers", "volumes", "imagePullSecrets"}
    if name.startswith("ClusterServingRuntime"):
        spec = {key: value for key, value in spec.items() if key in allowed}
    have = {item["name"] for item in spec.get("volumes") or ()}
    for container in spec["containers"]:
        for mount in container["volumeMounts"]:
            if mount["name"] not in have:
                claim = {"persistentVolumeClaim": {"claimName": mount["name"]}}
                spec.setdefault("volumes", []).append({"name": mount["name"], **claim})
    # The class is not installed here.
    spec.pop("priorityClassName", None)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "tried"}, "spec": spec}


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_a_restricted_namespace_admits_every_pod(server: ApiServer, values: Path) -> None:
    namespace = server.new_namespace("restricted")
    with server.client() as api:
        core = client.CoreV1Api(api)
        core.patch_namespace(namespace, {"metadata": {"labels": {RESTRICTED: "restricted"}}})
        for name, spec in pod_specs(rendered(values, hooks=True)).items():
            core.create_namespaced_pod(namespace, as_pod(name, spec), dry_run="All")
            root = as_pod(name, spec)
            del root["spec"]["containers"][0]["securityContext"]["capabilities"]
            with pytest.raises(client.ApiException, match="violates PodSecurity"):
                core.create_namespaced_pod(namespace, root, dry_run="All")


def openapi(server: ApiServer, *wanted: str) -> Any:
    """Return the document once it has these kinds; it follows the resources by some seconds."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with server.client() as api:
            found = api.call_api(
                "/openapi/v2", "GET", response_type="object", _return_http_data_only=True,
                header_params={"Accept": "application/json"},
            )  # fmt: skip
        kinds = {
            kind["kind"]
            for item in found["definitions"].values()
            for kind in item.get("x-kubernetes-group-version-kind") or ()
        }
        if set(wanted) <= kinds:
            return found
        time.sleep(0.5)
    raise AssertionError(f"not in the API server's OpenAPI: {set(wanted) - kinds}")


def test_kubeconform_with_the_api_servers_own_schemas(
    server: ApiServer, clients: Clients, tmp_path: Path
) -> None:
    document = openapi(
        server, "ModelRollout", "PodMonitor", "PrometheusRule", "ClusterServingRuntime"
    )
    write_schemas(document, tmp_path)

    def conforms(objects: tuple[Object, ...]) -> subprocess.CompletedProcess[str]:
        command = [
            str(clients.kubeconform),
            "-summary",
            "-schema-location",
            f"{tmp_path}/{LOCATION}",
        ]
        return subprocess.run(
            command, input=dumped(objects), capture_output=True, text=True, check=False
        )

    for values in VALUES:
        objects = rendered(values, hooks=True)
        done = conforms(objects)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"Valid: {len(objects)}, Invalid: 0, Errors: 0, Skipped: 0" in done.stdout
    wrong = copied(next(i for i in rendered(VALUES[0]) if i["kind"] == "StatefulSet"))
    wrong["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    assert "livenesProbe" in conforms((wrong,)).stdout


def test_it_is_installed_upgraded_in_a_rollout_and_taken_away(
    server: ApiServer, clients: Clients
) -> None:
    namespace = server.new_namespace("chart")
    name = f"davy-{namespace}"
    helm = [clients.helm, "-n", namespace]
    sets = ["--set", f"servingRuntime.name={name}", "--set", "rollouts.aggregateToEdit=false"]
    # Others' tests have installed the resource here.
    said = call(server, *helm, "install", name, CHART, *sets, "--take-ownership")
    assert "No registry has Davy's images" in said
    assert "Business Source License" in said
    assert f"helm -n {namespace} test {name} --logs" in said
    with server.client() as api:
        apps, custom = client.AppsV1Api(api), client.CustomObjectsApi(api)
        document = rollout_document("demo")
        made = custom.create_namespaced_custom_object(
            "davylamp.dev", "v1alpha1", namespace, "modelrollouts", document
        )
        assert apps.read_namespaced_deployment(f"{name}-operator", namespace).spec.replicas == 2
        call(server, *helm, "upgrade", name, CHART, *sets, "--set", "operator.replicas=3")
        assert apps.read_namespaced_deployment(f"{name}-operator", namespace).spec.replicas == 3
        call(server, *helm, "uninstall", name)
        assert apps.list_namespaced_deployment(namespace).items == []
        assert client.RbacAuthorizationV1Api(api).list_cluster_role(
            label_selector=f"app.kubernetes.io/instance={name}"
        ).items == []  # fmt: skip
        left = custom.get_namespaced_custom_object(
            "davylamp.dev", "v1alpha1", namespace, "modelrollouts", "take-over"
        )
    assert (left["metadata"]["uid"], left["spec"]) == (made["metadata"]["uid"], made["spec"])
