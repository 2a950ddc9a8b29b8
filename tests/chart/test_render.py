"""What the chart installs, with each of its values files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.chart.rendering import (
    CHART,
    NAMESPACE,
    ROOT,
    VALUES,
    Object,
    by_name,
    pod_specs,
    rendered,
    run,
)
from tests.cluster.bed.clients import Clients

pytestmark = pytest.mark.usefixtures("clients")

DEFAULT, EVERYTHING, KNATIVE, NAMESPACED = (
    CHART / f"ci/{name}-values.yaml" for name in ("default", "everything", "knative", "namespaced")
)


def one(objects: tuple[Object, ...], kind: str, name: str) -> Object:
    (found,) = (i for i in objects if (i["kind"], i["metadata"]["name"]) == (kind, name))
    return found


def environment(objects: tuple[Object, ...], name: str) -> dict[str, Any]:
    container = pod_specs(objects)[name]["containers"][0]
    names = [item["name"] for item in container["env"]]
    assert len(names) == len(set(names))
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in container["env"]}


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_it_renders_lints_and_has_nothing_twice(clients: Clients, values: Path) -> None:
    objects = by_name(rendered(values, hooks=True))
    assert objects
    for _, namespace, _ in objects:
        assert namespace in {"", NAMESPACE, "models", "shop", "search"}
    lint = run(clients.helm, "lint", "--strict", CHART, "-f", values)
    assert lint.returncode == 0, lint.stdout + lint.stderr


def test_each_template_has_one_object() -> None:
    for path in (CHART / "templates").rglob("*.yaml"):
        kinds = re.findall(r"^kind: ", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(kinds) == (0 if path.name == "crd.yaml" else 1), path


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_every_object_says_whose_it_is(values: Path) -> None:
    for item in rendered(values, hooks=True):
        assert item["metadata"]["labels"]["app.kubernetes.io/part-of"] == "davy", item["metadata"]


def test_the_crd_is_the_committed_one_and_outlives_the_chart() -> None:
    found = one(rendered(DEFAULT), "CustomResourceDefinition", "modelrollouts.davylamp.dev")
    text = (ROOT / "k8s/crds/modelrollouts.davylamp.dev.yaml").read_text(encoding="utf-8")
    assert found["spec"] == yaml.safe_load(text)["spec"]
    assert found["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    kinds = {item["kind"] for item in rendered(NAMESPACED)}
    assert "CustomResourceDefinition" not in kinds


def rules() -> dict[str, str]:
    folder = ROOT / "monitoring/rules"
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.yaml"))}


def test_the_rules_are_the_committed_ones_either_way() -> None:
    plain = one(rendered(DEFAULT), "ConfigMap", "davy-rules")
    assert {name: text.rstrip() for name, text in plain["data"].items()} == {
        name: text.rstrip() for name, text in rules().items()
    }
    groups = one(rendered(KNATIVE), "PrometheusRule", "davy")["spec"]["groups"]
    assert groups == [g for text in rules().values() for g in yaml.safe_load(text)["groups"]]
    assert not {"ConfigMap", "PrometheusRule"} & {i["kind"] for i in rendered(NAMESPACED)}


def test_the_dashboards_are_the_committed_ones_with_the_sidecars_label() -> None:
    found = one(rendered(DEFAULT), "ConfigMap", "davy-dashboards")
    folder = ROOT / "monitoring/dashboards"
    assert {name: json.loads(text) for name, text in found["data"].items()} == {
        path.name: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")
    }
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_pods_are_found_by_annotations_or_by_monitors_and_never_by_both() -> None:
    def annotated(objects: tuple[Object, ...]) -> set[str]:
        found = set()
        for item in objects:
            template = (
                item["spec"].get("template", {}).get("metadata", {}) if "spec" in item else {}
            )
            notes = template.get("annotations") or item.get("spec", {}).get("annotations") or {}
            if notes.get("prometheus.io/scrape") == "true":
                found.add(f"{item['kind']}:{notes['prometheus.io/port']}")
        return found

    assert annotated(rendered(DEFAULT)) == {
        "Deployment:8085",
        "StatefulSet:8090",
        "ClusterServingRuntime:8080",
    }
    assert "PodMonitor" not in {item["kind"] for item in rendered(DEFAULT)}
    assert annotated(rendered(EVERYTHING)) == set()
    monitors = [item for item in rendered(EVERYTHING) if item["kind"] == "PodMonitor"]
    assert len(monitors) == 2
    ports = {
        port["name"]
        for spec in pod_specs(rendered(EVERYTHING)).values()
        for port in spec["containers"][0]["ports"]
    }
    scraped = {port["port"] for item in monitors for port in item["spec"]["podMetricsEndpoints"]}
    assert scraped == ports | {"user-port"}


def test_settings_reach_the_processes_and_are_known_there(monkeypatch: pytest.MonkeyPatch) -> None:
    from davy.detector.settings import DetectorSettings
    from davy.predictor.settings import PredictorSettings
    from davy.rollout.operator.settings import OperatorSettings

    found = rendered(EVERYTHING)
    for name, cls in (
        ("Deployment/davy-operator", OperatorSettings),
        ("StatefulSet/davy-detector", DetectorSettings),
        ("ClusterServingRuntime/davy", PredictorSettings),
    ):
        values = environment(found, name)
        for key, value in values.items():
            monkeypatch.setenv(key, value if isinstance(value, str) else "from-the-pod")
        loaded = cls.load()
        if isinstance(loaded, OperatorSettings):
            assert loaded.drain_seconds == 20
            assert loaded.patience_seconds == 7.5
            assert loaded.watch_namespaces == "shop,search"
            assert loaded.public_key == Path("/keys/davy-signing.pub")
        elif isinstance(loaded, DetectorSettings):
            assert (loaded.body_bytes, loaded.engine) == (33554432, "native")
        else:
            assert loaded.payload_sample_rate == 0.1
            assert loaded.payload_url == f"http://davy-detector.{NAMESPACE}:8090"


def test_the_default_settings_load_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from davy.detector.settings import DetectorSettings
    from davy.rollout.operator.settings import OperatorSettings

    for name, cls in (
        ("Deployment/davy-operator", OperatorSettings),
        ("StatefulSet/davy-detector", DetectorSettings),
    ):
        for key, value in environment(rendered(DEFAULT), name).items():
            monkeypatch.setenv(key, value if isinstance(value, str) else "from-the-pod")
        assert str(cls.load().store) == "/packages"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("sets", "image"),
    [
        ((), "davy-operator:0.1.0"),
        (("operator.image.tag=0.2.0",), "davy-operator:0.2.0"),
        (
            (f"operator.image.digest=sha256:{'a' * 64}", "operator.image.tag=0.2.0"),
            f"davy-operator@sha256:{'a' * 64}",
        ),
    ],
)
def test_a_digest_wins_over_a_tag_over_the_charts_version(
    sets: tuple[str, ...], image: str
) -> None:
    specs = pod_specs(rendered(DEFAULT, *sets))
    assert specs["Deployment/davy-operator"]["containers"][0]["image"] == image


def test_the_native_engine_comes_with_its_image() -> None:
    specs = pod_specs(rendered(DEFAULT, "detector.engine=native"))
    image = specs["StatefulSet/davy-detector"]["containers"][0]["image"]
    assert image == "davy-detector:0.1.0-native"


def test_a_watched_namespace_gets_a_binding_and_the_cluster_none() -> None:
    found = by_name(rendered(EVERYTHING))
    bound = {namespace for kind, namespace, name in found if kind == "RoleBinding"
             and name == "davy-operator"}  # fmt: skip
    assert bound == {"shop", "search"}
    assert ("ClusterRoleBinding", "", "davy-operator") not in found
    assert ("ClusterRoleBinding", "", "davy-operator-cluster") in found
    wide = by_name(rendered(DEFAULT))
    assert ("ClusterRoleBinding", "", "davy-operator") in wide
    assert not any(name.endswith("-cluster") for _, _, name in wide)


def test_knative_mode_may_not_read_what_only_standard_mode_needs() -> None:
    def resources(values: Path) -> set[str]:
        role = one(rendered(values), "ClusterRole", "davy-operator")
        return {name for rule in role["rules"] for name in rule["resources"]}

    assert resources(DEFAULT) - resources(KNATIVE) == {
        "httproutes",
        "deployments",
        "endpointslices",
    }


def test_one_operator_has_no_disruption_budget() -> None:
    def kinds(values: Path) -> set[str]:
        return {item["kind"] for item in rendered(values)}

    assert "PodDisruptionBudget" in kinds(DEFAULT)
    assert "PodDisruptionBudget" not in kinds(NAMESPACED)


@pytest.mark.parametrize(
    ("url", "ports"),
    [
        ("http://prometheus:9090", {443, 6443, 9090}),
        ("http://prometheus", {443, 6443, 80}),
        ("https://prometheus/x", {443, 6443}),
    ],
)
def test_the_operator_reaches_the_api_server_and_prometheus(url: str, ports: set[int]) -> None:
    policy = one(
        rendered(DEFAULT, f"operator.prometheusUrl={url}"), "NetworkPolicy", "davy-operator"
    )
    _, reached = policy["spec"]["egress"]
    assert {item["port"] for item in reached["ports"]} == ports


def test_the_detector_reaches_nothing_but_a_named_archive() -> None:
    policy = one(rendered(DEFAULT), "NetworkPolicy", "davy-detector")
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert policy["spec"]["egress"] == []
    (named,) = one(rendered(EVERYTHING), "NetworkPolicy", "davy-detector")["spec"]["egress"]
    assert {item["port"] for item in named["ports"]} == {53, 443}


def test_another_releases_names_do_not_meet_the_first_ones(clients: Clients) -> None:
    done = run(clients.helm, "template", "second", CHART, "-n", "other")
    names = {item["metadata"]["name"] for item in yaml.safe_load_all(done.stdout) if item}
    first = {item["metadata"]["name"] for item in rendered(DEFAULT)}
    assert names & first == {"davy-onnx", "modelrollouts.davylamp.dev"}
