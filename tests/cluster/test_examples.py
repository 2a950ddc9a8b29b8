"""The examples, as KServe's resource of the SDK's models and its webhooks' rules take them.

KServe's controller and webhooks are stood in for; pods are tried where `restricted` is enforced.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from tests.chart.rendering import copied
from tests.cluster.bed.apiserver import ApiServer
from tests.cluster.bed.kserve_standin import KServeStandin
from tests.cluster.bed.services import GROUP, PLURAL, VERSION, eventually
from tests.cluster.operator_bed import install

from davy.cli.doctor.cluster import service_mode
from davy.cli.doctor.finding import Level
from davy.rollout.adapters.kserve_detect import detect_mode
from davy.rollout.adapters.kubernetes_objects import KubernetesObjects
from davy.rollout.kserve import service as isvc
from davy.rollout.spec import Candidate

pytestmark = pytest.mark.cluster

FOLDER = Path(__file__).parents[2] / "k8s/examples"
FILES = sorted(path for path in FOLDER.glob("*.yaml") if path.name != "rollout.yaml")
STRICT = [("fieldValidation", "Strict")]


def documents(path: Path) -> list[dict[str, Any]]:
    return [item for item in yaml.safe_load_all(path.read_text(encoding="utf-8")) if item]


def service(path: Path) -> dict[str, Any]:
    (found,) = (item for item in documents(path) if item["kind"] == "InferenceService")
    return found


@pytest.fixture
def namespace(apiserver: ApiServer, kserve: KServeStandin) -> Iterator[str]:
    name = apiserver.new_namespace("example")
    yield name
    with apiserver.client() as api:
        client.CustomObjectsApi(api).delete_collection_namespaced_custom_object(
            GROUP, VERSION, name, PLURAL
        )


def made(api: client.ApiClient, namespace: str, body: dict[str, Any]) -> dict[str, Any]:
    """Create it as `kubectl apply` does: a field that nobody knows is refused."""
    body = copied(body)
    body["metadata"]["namespace"] = namespace
    group, _, version = body["apiVersion"].partition("/")
    plural = {"InferenceService": PLURAL, "ModelRollout": "modelrollouts"}[body["kind"]]
    answer: dict[str, Any] = api.call_api(
        f"/apis/{group}/{version}/namespaces/{namespace}/{plural}", "POST", body=body,
        query_params=STRICT, response_type="object", _return_http_data_only=True,
        header_params={"Content-Type": "application/json", "Accept": "application/json"},
    )  # fmt: skip
    return answer


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_kserve_takes_it_and_a_rollout_of_it_is_possible(
    apiserver: ApiServer, namespace: str, path: Path
) -> None:
    body = service(path)
    name, wanted = body["metadata"]["name"], path.stem.partition("-")[0].title()
    with apiserver.client() as api:
        made(api, namespace, body)
        objects = KubernetesObjects(api)

        def declared() -> Any:
            found = client.CustomObjectsApi(api).get_namespaced_custom_object(
                GROUP, VERSION, namespace, PLURAL, name
            )
            return found if (found.get("status") or {}).get("deploymentMode") else None

        found = eventually("KServe's stand-in has looked at it", declared)
        assert detect_mode(objects, namespace=namespace, service=name) == wanted
        assert service_mode(found, None).level == Level.OK
    stable = body["spec"]["predictor"]
    candidate = Candidate(version="v2", image="other:2", package_uri="pvc://davy-packages/m/v2")
    other = isvc.candidate_predictor(stable, candidate)
    assert isinstance(other, dict)
    assert not isvc.same_model(stable, other)
    if wanted == "Standard":
        assert isvc.storage_uri(stable)
        assert stable["minReplicas"] >= 1


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_its_pod_is_admitted_where_restricted_is_enforced(
    apiserver: ApiServer, namespace: str, path: Path
) -> None:
    predictor = service(path)["spec"]["predictor"]
    if "containers" not in predictor:
        # The runtime's container, which the chart's test tries: the model adds variables.
        assert set(predictor["model"]) == {"modelFormat", "runtime", "storageUri", "env"}
        return
    label = {"pod-security.kubernetes.io/enforce": "restricted"}
    keep = {"containers", "volumes", "terminationGracePeriodSeconds"}
    spec = {key: value for key, value in predictor.items() if key in keep}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "tried"}, "spec": spec}
    with apiserver.client() as api:
        core = client.CoreV1Api(api)
        core.patch_namespace(namespace, {"metadata": {"labels": label}})
        core.create_namespaced_pod(namespace, pod, dry_run="All")


def test_a_misspelt_field_is_refused(apiserver: ApiServer, namespace: str) -> None:
    body = copied(service(FOLDER / "standard-pvc.yaml"))
    body["spec"]["predictor"]["model"]["storageURI"] = "x"
    with apiserver.client() as api, pytest.raises(client.ApiException, match="storageURI"):
        made(api, namespace, body)


def test_the_rollout_is_one_of_an_example(apiserver: ApiServer, namespace: str) -> None:
    install(apiserver)
    (body,) = documents(FOLDER / "rollout.yaml")
    with apiserver.client() as api:
        found = made(api, namespace, body)
    name = found["spec"]["inferenceServiceRef"]["name"]
    assert name in {service(path)["metadata"]["name"] for path in FILES}
    assert found["spec"]["candidate"]["packageURI"].endswith(found["spec"]["candidate"]["version"])
