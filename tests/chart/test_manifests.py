"""The kustomizations give the objects of the chart."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.chart.rendering import CHART, ROOT, Object, by_name, copied, kustomized, rendered
from tests.cluster.bed.clients import Clients

pytestmark = pytest.mark.usefixtures("clients")

OVERLAYS = ROOT / "k8s/overlays"
DEFAULT = CHART / "ci/default-values.yaml"
# Of who made an object, not of the object.
HELM_LABELS = ("app.kubernetes.io/managed-by", "helm.sh/chart")
# Installed by commands of their own: k8s/README.md.
APART = ("crds.install=false", "monitoring.rules=false", "monitoring.dashboards.enabled=false")


def same(item: Object) -> Object:
    """Return an object without what says who made it, and with its variables in one order."""
    found = copied(item)
    for label in HELM_LABELS:
        found["metadata"]["labels"].pop(label, None)
    for container in (
        found.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
    ):
        container["env"] = sorted(container["env"], key=lambda variable: str(variable["name"]))
    return found


@pytest.mark.parametrize(
    ("overlay", "sets"),
    [
        ("gateway", ()),
        ("knative", ("mode=knative",)),
        (
            "namespaced",
            (
                "operator.watchNamespaces={models}",
                "detector.enabled=false",
                "servingRuntime.enabled=false",
            ),
        ),
    ],
)
def test_an_overlay_gives_the_objects_of_the_chart(overlay: str, sets: tuple[str, ...]) -> None:
    ours = by_name(kustomized(OVERLAYS / overlay))
    charts = by_name(rendered(DEFAULT, *APART, *sets))
    assert set(ours) == set(charts)
    for key, item in charts.items():
        assert same(ours[key]) == same(item), key


def test_no_overlay_is_left_out() -> None:
    assert {path.name for path in OVERLAYS.iterdir()} == {"gateway", "knative", "namespaced"}


@pytest.mark.parametrize("name", ["rules", "dashboards"])
def test_what_the_documented_command_makes_is_that_of_the_chart(
    clients: Clients, name: str
) -> None:
    done = subprocess.run(
        [str(clients.kubectl), "create", "configmap", f"davy-{name}",
         "--dry-run=client", "-o", "yaml", f"--from-file={ROOT / 'monitoring' / name}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    made: dict[str, Any] = yaml.safe_load(done.stdout)
    (chart,) = (item for item in rendered(DEFAULT) if item["metadata"]["name"] == f"davy-{name}")
    assert made["data"]
    assert {file: text.rstrip() for file, text in made["data"].items()} == {
        file: text.rstrip() for file, text in chart["data"].items()
    }


def test_manifests_and_chart_name_the_same_versions() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    from importlib.metadata import version

    assert chart["appVersion"] == version("davylamp")
    for path in Path(ROOT / "k8s/base").rglob("kustomization.yaml"):
        for pairs in yaml.safe_load(path.read_text(encoding="utf-8")).get("labels") or ():
            found = pairs["pairs"].get("app.kubernetes.io/version", chart["appVersion"])
            assert found == chart["appVersion"], path
