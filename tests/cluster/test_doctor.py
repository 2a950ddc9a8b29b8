"""`davy doctor --cluster` against a real API server; KServe and Prometheus are stood in for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest
import yaml
from kubernetes import client, utils
from tests.cluster.bed.apiserver import ApiServer
from tests.cluster.bed.kserve_standin import KServeStandin
from tests.cluster.bed.services import TestService, service_in_new_namespace
from tests.cluster.operator_bed import install

from davy.cli.doctor import cluster_facts
from davy.cli.doctor.cluster_facts import Question, look, reach
from davy.cli.doctor.finding import Finding, Level
from davy.cli.doctor.rights import OPERATOR, Role
from davy.core.clock import ManualClock, SystemClock

pytestmark = pytest.mark.cluster

DAVY = Path(sys.executable).parent / "davy"
RBAC = Path(__file__).parents[2] / "k8s/base/operator/rbac.yaml"


@pytest.fixture
def service(apiserver: ApiServer, kserve: KServeStandin) -> Iterator[TestService]:
    install(apiserver)
    with service_in_new_namespace(apiserver) as found:
        found.create("Standard")
        yield found


def stand_in_prometheus(*series: dict[str, str]) -> httpx.MockTransport:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.params["query"] == "davy_model_info"
        result = [{"metric": labels, "value": [0, "1"]} for labels in series]
        body = {"status": "success", "data": {"resultType": "vector", "result": result}}
        return httpx.Response(200, json=body, headers={"Date": format_datetime(datetime.now(UTC))})

    return httpx.MockTransport(answer)


def question(namespace: str, own: str, role: Role = Role.PERSON) -> Question:
    return Question(namespace, own, "kserve", "http://prometheus", "davy-operator", role)


def by_check(found: list[Finding]) -> dict[str, Finding]:
    return {item.check: item for item in found}


def test_what_is_there_is_found_good(apiserver: ApiServer, service: TestService) -> None:
    scraped = {"version": "v1", "namespace": service.namespace, "pod": "demo-1"}
    with apiserver.client() as api:
        found = by_check(
            look(
                api,
                question(service.namespace, apiserver.new_namespace("own")),
                SystemClock(),
                stand_in_prometheus(scraped),
            )
        )
    good = {check for check, item in found.items() if item.level == Level.OK}
    assert good >= {
        "kubernetes",
        "clock beside the API server",
        "clock beside Prometheus",
        "ModelRollout",
        "KServe",
        f"InferenceService {service.namespace}/demo",
        f"scraping {service.namespace}/demo",
        "rights of yours",
    }, [item for item in found.values() if item.level != Level.OK]
    assert found["operator"].level == Level.WARN
    assert "of this version" in found["ModelRollout"].says


def test_who_has_the_operators_role_is_allowed_all_of_it_and_nobody_else(
    apiserver: ApiServer, service: TestService
) -> None:
    own = apiserver.new_namespace("own")
    with apiserver.client() as admin:
        for item in yaml.safe_load_all(RBAC.read_text(encoding="utf-8")):
            if item["metadata"].get("namespace"):
                item["metadata"]["namespace"] = own
            else:
                item["metadata"]["name"] += f"-{own}"
            if item["kind"] == "ClusterRoleBinding":
                item["roleRef"]["name"] += f"-{own}"
            for subject in item.get("subjects") or ():
                subject["namespace"] = own
            utils.create_from_dict(admin, item, namespace=own)

    def rights(user: str) -> Finding:
        with apiserver.client(apiserver.kubeconfig_for(user)) as api:
            found = look(api, question(service.namespace, own, Role.OPERATOR), SystemClock(),
                         stand_in_prometheus())  # fmt: skip
        return by_check(found)["rights of the operator"]

    allowed = rights(f"system:serviceaccount:{own}:davy-operator")
    assert (allowed.level, allowed.says) == (Level.OK, f"{len(OPERATOR)} of {len(OPERATOR)}")
    refused = rights(f"nobody-{own}")
    assert refused.level == Level.FAIL
    assert f"lacks {len(OPERATOR)}" in refused.says


def test_a_clock_that_is_off_is_found(apiserver: ApiServer, service: TestService) -> None:
    late = ManualClock(datetime.now(UTC) - timedelta(minutes=1))
    with apiserver.client() as api:
        found = look(api, question(service.namespace, "default"), late, stand_in_prometheus())
    assert by_check(found)["clock beside the API server"].level == Level.FAIL


def test_an_operator_that_holds_the_lease_is_found(
    apiserver: ApiServer, service: TestService
) -> None:
    own = apiserver.new_namespace("own")
    with apiserver.client() as api:
        body = client.V1Lease(
            metadata=client.V1ObjectMeta(name="davy-operator"),
            spec=client.V1LeaseSpec(holder_identity="pod-1_ab", renew_time=datetime.now(UTC)),
        )
        client.CoordinationV1Api(api).create_namespaced_lease(own, body)
        found = look(api, question(service.namespace, own), SystemClock(), stand_in_prometheus())
    assert by_check(found)["operator"].says.startswith("pod-1_ab leads")


def test_the_command_says_it_as_json_and_ends_with_78(
    apiserver: ApiServer, service: TestService
) -> None:
    done = subprocess.run(
        [str(DAVY), "doctor", "--cluster", "-n", service.namespace, "-o", "json",
         "--prometheus", "http://127.0.0.1:1"],
        env={**os.environ, "KUBECONFIG": str(apiserver.kubeconfig)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 78, done.stderr
    found = {item["check"]: item for item in json.loads(done.stdout)["findings"]}
    assert found["Prometheus"]["level"] == "fail"
    assert found["kubernetes"]["level"] == "ok"


def test_in_a_pod_it_looks_with_the_rights_of_its_service_account(
    apiserver: ApiServer,
    service: TestService,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = apiserver.new_namespace("own")
    with apiserver.client() as admin:
        core = client.CoreV1Api(admin)
        core.create_namespaced_service_account(own, {"metadata": {"name": "davy-operator"}})
        request = {"spec": {"audiences": ["https://kubernetes.default.svc"]}}
        token = core.create_namespaced_service_account_token("davy-operator", own, request)
    # What a kubelet would mount; the client's library has the paths as constants.
    mounted = {"token": token.status.token, "namespace": f"{own}\n",
               "ca.crt": apiserver.authority.certificate.read_text()}  # fmt: skip
    for name, text in mounted.items():
        (tmp_path / name).write_text(text)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    host, _, port = apiserver.url.removeprefix("https://").partition(":")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    monkeypatch.setattr(cluster_facts, "_POD_NAMESPACE", tmp_path / "namespace")
    loader = "kubernetes.config.incluster_config.SERVICE_"
    monkeypatch.setattr(f"{loader}TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(f"{loader}CERT_FILENAME", str(tmp_path / "ca.crt"))

    api, namespace, role = reach(None, None)
    assert (namespace, role) == (own, Role.OPERATOR)
    with api:
        found = by_check(
            look(api, question(namespace, own, role), SystemClock(), stand_in_prometheus())
        )
    assert found["kubernetes"].level == Level.OK
    # It has no role here: nothing but what everybody may is answered, and nothing breaks.
    assert f"lacks {len(OPERATOR)}" in found["rights of the operator"].says
    assert "may not be read" in found["ModelRollout"].says
    assert found["operator"].level == Level.SKIP


def test_a_server_that_does_not_answer_is_a_finding() -> None:
    configuration = client.Configuration(host="http://127.0.0.1:1")
    configuration.retries = 0
    with client.ApiClient(configuration) as api:
        (found,) = look(api, question("default", "default"), SystemClock())
    assert (found.check, found.level) == ("kubernetes", Level.FAIL)
