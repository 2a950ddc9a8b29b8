"""The commands of k8s/README.md, one after the other, on an API server of their own."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client
from tests.chart.rendering import ROOT, clients_or_skip
from tests.cluster.bed.apiserver import ApiServer, running_apiserver
from tests.cluster.bed.clients import Clients
from tests.cluster.bed.crds import inference_service_crd, serving_runtime_crd
from tests.cluster.bed.programs import find_programs

pytestmark = pytest.mark.cluster

PAGE = ROOT / "k8s/README.md"


@pytest.fixture
def bare(apiserver: ApiServer, tmp_path: Path) -> Iterator[ApiServer]:
    """An API server that nobody has installed anything on but KServe's resources."""
    with running_apiserver(find_programs(), tmp_path / "bare") as server:
        server.install_crd(serving_runtime_crd())
        server.install_crd(inference_service_crd())
        yield server


def commands() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    return [line for block in blocks for line in block.splitlines() if line]


def test_each_command_of_the_page_does_what_it_says(bare: ApiServer) -> None:
    programs: Clients = clients_or_skip()
    path = os.pathsep.join(
        [str(programs.helm.parent), str(programs.kubectl.parent), os.environ["PATH"]]
    )
    environ = {**os.environ, "PATH": path, "KUBECONFIG": str(bare.kubeconfig)}
    run = commands()
    assert any(line.startswith("helm install") for line in run)
    installed: list[set[str]] = []
    with bare.client() as api:
        for line in run:
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", line],
                cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=120,
            )  # fmt: skip
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
            found = client.AppsV1Api(api).list_namespaced_deployment("davy").items
            installed.append({item.metadata.name for item in found})
        maps = client.CoreV1Api(api).list_namespaced_config_map("davy").items
    at = {line.split()[1] if line.startswith("helm") else line: index
          for index, line in enumerate(run)}  # fmt: skip
    assert installed[at["template"]] == set()
    assert installed[at["install"]] == installed[at["upgrade"]] == {"davy-operator"}
    assert installed[at["uninstall"]] == set()
    assert installed[-1] == {"davy-operator"}
    assert "davy-rules" in {item.metadata.name for item in maps}
