"""What follows from what a cluster answers."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from davy.cli.doctor import cluster
from davy.cli.doctor.finding import Level
from davy.cli.doctor.rights import OPERATOR, PERSON, STANDARD_ONLY, Role
from davy.rollout import crd


@pytest.mark.parametrize(
    ("version", "level"),
    [
        ("v1.34.4", Level.OK),
        ("v1.29.0-eks-1", Level.OK),
        ("v1.28.9", Level.FAIL),
        ("master", Level.WARN),
    ],
)
def test_a_kubernetes_that_is_too_old_fails(version: str, level: Level) -> None:
    assert cluster.kubernetes(version).level == level


def test_the_resource_is_served_and_of_this_version() -> None:
    wanted = crd.definition()
    assert cluster.rollout_crd(False, None, wanted).level == Level.FAIL
    assert cluster.rollout_crd(True, wanted, wanted).says == "is served, and of this version"
    assert "may not be read" in cluster.rollout_crd(True, None, wanted).says


def test_a_resource_of_another_version_is_named_by_its_first_difference() -> None:
    wanted, found = crd.definition(), crd.definition()
    spec = found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    older = copy.deepcopy(found)
    del spec["properties"]["paused"]
    lacking = cluster.rollout_crd(True, found, wanted)
    assert lacking.level == Level.FAIL
    assert "lacks v1alpha1.properties.spec.properties.paused" in lacking.says
    spec = older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["speed"] = {"type": "string"}
    assert "has v1alpha1.properties.spec.properties.speed" in (
        cluster.rollout_crd(True, older, wanted).says
    )
    spec["properties"].pop("speed")
    spec["properties"]["paused"]["type"] = "string"
    assert "paused.type differs" in cluster.rollout_crd(True, older, wanted).says


def kserve_crd(*, canary: bool) -> dict[str, Any]:
    fields = {"predictor": {}, **({"canary": {}} if canary else {})}
    schema = {"properties": {"spec": {"properties": fields}}}
    return {"spec": {"versions": [{"name": "v1beta1", "schema": {"openAPIV3Schema": schema}}]}}


def test_kserve_is_there_and_knows_canaries() -> None:
    assert cluster.kserve(False, None).level == Level.FAIL
    assert cluster.kserve(True, None).level == Level.SKIP
    assert cluster.kserve(True, kserve_crd(canary=True)).level == Level.OK
    assert cluster.kserve(True, kserve_crd(canary=False)).level == Level.WARN


def service(mode: str, version: str | None = "v1") -> dict[str, Any]:
    annotations = {} if version is None else {"davylamp.dev/version": version}
    return {
        "metadata": {"name": "demo", "namespace": "shop"},
        "spec": {"predictor": {"annotations": annotations}},
        "status": {"deploymentMode": mode} if mode else {},
    }


@pytest.mark.parametrize(
    ("found", "canary", "level", "said"),
    [
        (service("Standard"), True, Level.OK, "Standard mode, serves v1"),
        (service("Serverless"), False, Level.OK, "Knative mode, serves v1"),
        (service("Standard"), False, Level.FAIL, "no spec.canary"),
        (service("ModelMesh"), True, Level.FAIL, "ModelMesh"),
        (service("Standard", None), True, Level.FAIL, "does not say which version"),
        (service(""), True, Level.WARN, "has not looked at it"),
    ],
)
def test_whether_a_service_can_have_a_rollout(
    found: dict[str, Any], canary: bool, level: Level, said: str
) -> None:
    judged = cluster.service_mode(found, kserve_crd(canary=canary))
    assert judged.level == level
    assert said in judged.says
    assert judged.check == "InferenceService shop/demo"


@pytest.mark.parametrize(
    ("modes", "default", "needed"),
    [
        (["Knative"], "Serverless", False),
        (["Knative", "Standard"], "Knative", True),
        ([], "RawDeployment", True),
        ([], "", True),
    ],
)
def test_a_gateway_is_needed_where_anything_is_in_standard_mode(
    modes: list[str], default: str, needed: bool
) -> None:
    assert cluster.needs_gateway([service(mode) for mode in modes], default) == needed


def configuration(**ingress: Any) -> dict[str, Any]:
    deploy = {"defaultDeploymentMode": "Standard"}
    return {"data": {"deploy": json.dumps(deploy), "ingress": json.dumps(ingress)}}


def test_kserves_configuration_says_whether_routes_are_made() -> None:
    on = configuration(enableGatewayApi=True, kserveIngressGateway="kserve/gw")
    found, default, gateway = cluster.kserve_configuration(on, True)
    assert (found.level, default, gateway) == (Level.OK, "Standard", "kserve/gw")
    assert cluster.kserve_configuration(configuration(), True)[0].level == Level.FAIL
    assert cluster.kserve_configuration(configuration(), False)[0].level == Level.OK
    assert cluster.kserve_configuration(None, True)[0].level == Level.SKIP
    assert cluster.kserve_configuration({"data": {"ingress": "{"}}, True)[0].level == Level.FAIL


def a_gateway(name: str, programmed: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "kserve"},
        "status": {"conditions": [{"type": "Programmed", "status": programmed}]},
    }


@pytest.mark.parametrize(
    ("served", "needed", "gateways", "named", "level"),
    [
        (False, True, None, "", Level.FAIL),
        (False, False, None, "", Level.SKIP),
        (True, True, None, "", Level.SKIP),
        (True, True, [], "", Level.FAIL),
        (True, True, [a_gateway("gw", "True")], "", Level.OK),
        (True, True, [a_gateway("gw", "True")], "kserve/gw", Level.OK),
        (True, True, [a_gateway("gw", "True")], "kserve/other", Level.FAIL),
        (True, True, [a_gateway("gw", "False"), a_gateway("b", "True")], "kserve/gw", Level.FAIL),
    ],
)
def test_a_gateway_that_splits_must_be_programmed(
    served: bool, needed: bool, gateways: list[Any] | None, named: str, level: Level
) -> None:
    assert cluster.gateway(served, needed, gateways, named).level == level


@pytest.mark.parametrize(("role", "rights"), [(Role.OPERATOR, OPERATOR), (Role.PERSON, PERSON)])
def test_rights_that_lack_are_named(role: Role, rights: frozenset[Any]) -> None:
    answers: dict[Any, bool | None] = dict.fromkeys(rights, True)
    assert cluster.permissions(role, answers, "shop").level == Level.OK
    one = sorted(rights)[0]
    lacking = cluster.permissions(role, {**answers, one: False}, "shop")
    assert lacking.level == Level.FAIL
    assert f"lacks 1: {one}" == lacking.says
    assert cluster.permissions(role, {**answers, one: None}, "shop").level == Level.SKIP


def test_an_operator_for_knative_alone_is_warned_of_and_no_failure() -> None:
    answers: dict[Any, bool | None] = {right: right not in STANDARD_ONLY for right in OPERATOR}
    assert cluster.permissions(Role.OPERATOR, answers, "shop").level == Level.WARN
    more = {**answers, sorted(OPERATOR - STANDARD_ONLY)[0]: False}
    assert cluster.permissions(Role.OPERATOR, more, "shop").level == Level.FAIL


@pytest.mark.parametrize(
    ("seconds", "level"),
    [(0.4, Level.OK), (-2.9, Level.OK), (4.0, Level.WARN), (-17.0, Level.FAIL)],
)
def test_a_clock_that_is_off_by_more_than_is_uncertain(seconds: float, level: Level) -> None:
    assert cluster.skew(seconds, 1.0, "the API server").level == level


def workload(**environ: str) -> dict[str, Any]:
    env = [{"name": name, "value": value} for name, value in environ.items()]
    return {
        "spec": {"template": {"spec": {"containers": [{"name": "it", "env": env}]}}},
        "status": {"readyReplicas": 2},
    }


def test_an_operator_is_at_work_when_its_lease_is_renewed() -> None:
    assert cluster.operator([workload()], "pod-1_ab", 3.0).level == Level.OK
    assert cluster.operator(None, "pod-1_ab", 3.0).level == Level.OK
    stale = cluster.operator([workload()], "pod-1_ab", 600.0)
    assert (stale.level, "2 pods ready" in stale.says) == (Level.FAIL, True)
    assert cluster.operator([], "", None).level == Level.WARN
    assert cluster.operator(None, "", None).level == Level.SKIP


def test_an_operator_without_a_store_or_a_key_cannot_verify() -> None:
    none = cluster.operator_keys([workload()])
    assert (none.level, "begins no rollout" in none.says) == (Level.FAIL, True)
    store = workload(DAVY_OPERATOR_STORE="/packages")
    assert "public key" in cluster.operator_keys([store]).says
    both = workload(DAVY_OPERATOR_STORE="/packages", DAVY_OPERATOR_PUBLIC_KEY="/keys/k.pub")
    assert cluster.operator_keys([both]).level == Level.OK


def test_the_licence_of_the_detectors_that_run() -> None:
    assert cluster.licence([]).level == Level.SKIP
    assert cluster.licence([workload(DAVY_DETECTOR_ENGINE="native")]).level == Level.OK
    assert cluster.licence([workload()]).level == Level.WARN
