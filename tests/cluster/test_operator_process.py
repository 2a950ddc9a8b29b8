"""`davy operator serve` as a process, with the rights of k8s/base: killed, taken over, ended.

Everything that it talks to over HTTP is real but for KServe's controller and Prometheus, which are
stood in for.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from kubernetes import client, utils
from tests.cluster.bed.apiserver import ApiServer
from tests.cluster.bed.kserve_standin import KServeStandin
from tests.cluster.bed.services import eventually, service_in_new_namespace
from tests.cluster.operator_bed import RolloutBed, StandInPrometheus, install, weight_served
from tests.fixtures.predictor_server import free_port
from tests.fixtures.tiny_package import write_tiny_package

from davy.rollout.operator.election import DURATION_SECONDS
from davy.rollout.operator.handlers import FINALIZER
from davy.rollout.replay import replay

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(420)]

DAVY = Path(sys.executable).parent / "davy"
RBAC = Path(__file__).parents[2] / "k8s/base/operator/rbac.yaml"
USER = "system:serviceaccount:davy:davy-operator"
PATIENCE = 120.0


@dataclass
class OperatorProcess:
    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def leads(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        try:
            text = httpx.get(f"{self.url}/metrics", trust_env=False).text
        except httpx.HTTPError:
            return False
        return "davy_operator_leading 1.0" in text

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(40)


@dataclass
class ProcessBed:
    rollout: RolloutBed
    environment: dict[str, str]
    folder: Path
    stack: ExitStack
    spec: dict[str, Any]

    def start(self, name: str) -> OperatorProcess:
        port, log = free_port(), self.folder / f"{name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [str(DAVY), "operator", "serve"],
                env={**self.environment, "DAVY_OPERATOR_PORT": str(port)},
                stdout=out, stderr=out, cwd=self.folder,
            )  # fmt: skip
        self.stack.callback(lambda: process.poll() is None and process.kill())
        return OperatorProcess(process, f"http://127.0.0.1:{port}", log)


@pytest.fixture
def bed(apiserver: ApiServer, kserve: KServeStandin, tmp_path: Path) -> Iterator[ProcessBed]:
    install(apiserver)
    package = write_tiny_package(tmp_path / "made")
    version = package.contract.version
    with ExitStack() as stack:
        service = stack.enter_context(service_in_new_namespace(apiserver))
        service.create("Standard")
        api = stack.enter_context(apiserver.client())
        lease_namespace = apiserver.new_namespace("lease")
        rights = list(yaml.safe_load_all(RBAC.read_text(encoding="utf-8")))
        for item in rights:
            if item["metadata"].get("namespace"):
                item["metadata"]["namespace"] = lease_namespace
            if item["kind"] in {"ClusterRole", "ClusterRoleBinding"}:
                # Each test has its own, so that they may run beside each other.
                item["metadata"]["name"] += f"-{lease_namespace}"
            if item["kind"] == "ClusterRoleBinding":
                item["roleRef"]["name"] += f"-{lease_namespace}"
            utils.create_from_dict(api, item, namespace=lease_namespace)
        prometheus = StandInPrometheus(
            lambda: weight_served(kserve.observed.shares_in, service.namespace), canary=version
        )
        stack.callback(prometheus.close)
        url = stack.enter_context(prometheus.over_http())
        environment = {
            **{key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ},
            "KUBECONFIG": str(apiserver.kubeconfig_for(USER)),
            "DAVY_OPERATOR_NAMESPACE": lease_namespace,
            "DAVY_OPERATOR_WATCH_NAMESPACES": service.namespace,
            "DAVY_OPERATOR_PROMETHEUS_URL": url,
            "DAVY_OPERATOR_STORE": str(tmp_path / "made/store"),
            "DAVY_OPERATOR_DRAIN_SECONDS": "0.6",
        }
        spec = {
            "candidate": {"version": version, "packageURI": "pvc://models/v2"},
            "analysis": {
                "interval": "0.5s",
                "deadline": "10m",
                "vetoes": [],
                "indicators": [{"name": "errors", "allowance": 0.01}],
            },
        }
        yield ProcessBed(RolloutBed(apiserver, service, prometheus, api), environment, tmp_path,
                         stack, spec)  # fmt: skip


def test_one_of_two_acts_and_the_other_goes_on_where_it_was_killed(
    bed: ProcessBed, kserve: KServeStandin
) -> None:
    rollout = bed.rollout
    one = bed.start("one")
    eventually("one leads", one.leads, PATIENCE)
    other = bed.start("other")
    eventually("the other is ready", other.ready, PATIENCE)
    slow = [{"weight": 10, "minDuration": "10s"}, {"weight": 50}]
    rollout.create(**{**bed.spec, "steps": slow})

    def has_weight() -> bool:
        weights = rollout.status().weights
        return weights is not None and weights.canary == 10

    eventually("the canary has weight", has_weight, PATIENCE)
    assert not other.leads()
    one.kill()
    killed = time.monotonic()
    looks = rollout.status().looks
    eventually("the other leads", other.leads, PATIENCE)
    assert time.monotonic() - killed >= DURATION_SECONDS - 3
    eventually("it is promoted", lambda: rollout.status().phase == "Promoted", PATIENCE)
    record = rollout.record()
    assert [line.look for line in record.looks] == list(range(1, len(record.looks) + 1))
    assert len(record.looks) > looks
    assert replay(record).difference is None
    assert sorted(rollout.events()) == ["Advanced", "Advanced", "Promoted", "Promoting"]
    assert kserve.observed.losses_in(rollout.namespace) == []
    assert f'"rollout": "{rollout.namespace}/take-over"' in other.log.read_text()
    assert other.end() == 0


def test_what_is_deleted_stays_until_its_canary_has_gone_and_a_signal_lets_the_lease_go(
    bed: ProcessBed, kserve: KServeStandin
) -> None:
    rollout = bed.rollout
    one = bed.start("one")
    rollout.create(**{**bed.spec, "steps": [{"weight": 20, "minDuration": "1h"}]})

    def weight() -> int:
        weights = rollout.status().weights
        return weights.canary if weights else 0

    eventually("the canary has weight", lambda: weight() == 20, PATIENCE)
    # A change of the spec is noticed though the next look is far off.
    rollout.patch({"spec": {"paused": True}})
    eventually("it is paused", lambda: rollout.status().phase == "Paused", PATIENCE)
    found = client.CustomObjectsApi(rollout.api).get_namespaced_custom_object(
        "davylamp.dev", "v1alpha1", rollout.namespace, "modelrollouts", "take-over"
    )
    assert found["metadata"]["finalizers"] == [FINALIZER]
    rollout.delete()
    eventually("it is gone", lambda: rollout.resource() is None, PATIENCE)
    assert kserve.observed.shares_in(rollout.namespace)[-1] == {"pvc://models/v1": 100}
    assert "canary" not in rollout.service.read()["spec"]
    assert kserve.observed.losses_in(rollout.namespace) == []
    assert one.end() == 0
    other = bed.start("other")
    # Ready is said at its first step: how long Python took to start is not of the election.
    eventually("the other is ready", other.ready, PATIENCE)
    began = time.monotonic()
    eventually("the other leads", other.leads, PATIENCE)
    assert time.monotonic() - began < DURATION_SECONDS
    assert other.end() == 0
