"""What people install with: helm, kubectl, kubeconform; and the Prometheus operator's resources.

Belongs here: versions, where they are kept, building and fetching what is missing.
Not here: how a Go module is built (`tests.cluster.bed.programs`), what they are run on.

``python -m tests.cluster.bed.clients`` builds what is missing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.bed import programs

HELM = "3.22.0"
KUBECONFORM = "0.8.0"
PROMETHEUS_OPERATOR = "0.85.0"
RESOURCES = ("podmonitors", "prometheusrules")

BUILD_COMMAND = ".venv/bin/python -m tests.cluster.bed.clients"


@dataclass(frozen=True, slots=True)
class Clients:
    """Paths of the three programs, and of a folder of CustomResourceDefinitions."""

    helm: Path
    kubectl: Path
    kubeconform: Path
    monitoring: Path

    def missing(self) -> list[str]:
        """Return the names of those that are not there."""
        found = (self.helm, self.kubectl, self.kubeconform)
        absent = [path.name for path in found if not os.access(path, os.X_OK)]
        return [*absent, *([] if self.monitoring.is_dir() else [self.monitoring.name])]


def find_clients(environ: Mapping[str, str] = os.environ) -> Clients:
    """Return the cached programs; build them first where the setting says so.

    Raises
    ------
    ProgramsMissingError
        They are not there, and are not to be built, or cannot be.
    """
    found = _places(environ)
    if missing := found.missing():
        if environ.get(programs.SETTING) != "build":
            raise programs.ProgramsMissingError(
                f"{', '.join(missing)} not in {found.helm.parents[1]}: build them once with "
                f"`{BUILD_COMMAND}`, or set {programs.SETTING}=build (Go, about 4 CPU minutes, "
                "135 MB)"
            )
        build(found)
    return found


def build(found: Clients) -> None:
    """Build what is missing; one builder at a time. Raises `ProgramsMissingError`."""
    go = programs.find_go()
    modules = {
        found.helm: ("helm.sh/helm/v3/cmd/helm", HELM, _helm_flags()),
        found.kubectl: (
            "k8s.io/kubernetes/cmd/kubectl",
            programs.KUBERNETES,
            programs.version_flags(),
        ),
        found.kubeconform: ("github.com/yannh/kubeconform/cmd/kubeconform", KUBECONFORM, "-s -w"),
    }
    for path, (package, version, flags) in modules.items():
        with programs.only_builder(path.parent):
            if not path.exists():
                programs.build_program(go, path.parent, path.name, package, f"v{version}", flags)
    _fetch_monitoring(go, found.monitoring)


def _fetch_monitoring(go: str, folder: Path) -> None:
    """Copy the CustomResourceDefinitions out of the module."""
    if folder.is_dir():
        return
    module = f"github.com/prometheus-operator/prometheus-operator@v{PROMETHEUS_OPERATOR}"
    with programs.only_builder(folder.parent):
        done = subprocess.run(
            [go, "mod", "download", "-json", module],
            cwd=folder.parent, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise programs.ProgramsMissingError(
                f"`go mod download` of {module} fails: {done.stderr.strip()[-500:]}"
            )
        source = Path(json.loads(done.stdout)["Dir"]) / "example/prometheus-operator-crd"
        unfinished = folder.with_suffix(".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        for name in RESOURCES:
            text = (source / f"monitoring.coreos.com_{name}.yaml").read_bytes()
            (unfinished / f"{name}.yaml").write_bytes(text)
        unfinished.rename(folder)


def _places(environ: Mapping[str, str]) -> Clients:
    kubernetes = programs.cache_folder(environ)
    base = kubernetes.parent
    return Clients(
        base / f"helm-{HELM}" / "helm",
        kubernetes / "kubectl",
        base / f"kubeconform-{KUBECONFORM}" / "kubeconform",
        base / f"prometheus-operator-{PROMETHEUS_OPERATOR}",
    )


def _helm_flags() -> str:
    # Without them helm believes that a chart is for Kubernetes 1.20, and refuses ours.
    major, minor, _ = programs.KUBERNETES.split(".")
    values = {
        "helm.sh/helm/v3/internal/version.version": f"v{HELM}",
        **{
            f"helm.sh/helm/v3/pkg/{package}.{name}": value
            for package in ("chartutil", "lint/rules")
            for name, value in (("k8sVersionMajor", major), ("k8sVersionMinor", minor))
        },
    }
    return " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in values.items())])


def main() -> int:
    """Build what is missing and say what it took."""
    began = time.monotonic()
    try:
        found = _places(os.environ)
        build(found)
    except programs.ProgramsMissingError as error:
        sys.stderr.write(f"error: {error}\n")
        return 69
    spent = os.times()
    sys.stdout.write(
        f"helm {HELM}, kubectl {programs.KUBERNETES} and kubeconform {KUBECONFORM} in "
        f"{found.helm.parents[1]}: {time.monotonic() - began:.0f} s, "
        f"{spent.children_user + spent.children_system:.0f} CPU s\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
