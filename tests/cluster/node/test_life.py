"""A node beside the other one: it shares nothing with it, and leaves nothing, however it ended."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from kubernetes import client
from tests.cluster.bed.node.configuration import PAUSE_IMAGE
from tests.cluster.bed.node.network import CONTROL_GROUPS
from tests.cluster.bed.node.node import Node
from tests.cluster.bed.node.processes import started_at
from tests.cluster.bed.node.settings import NodeSettings
from tests.cluster.bed.services import eventually

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]

PATIENCE = 120.0


@pytest.fixture
def other(node: Node) -> Iterator[Node]:
    # Not pytest's own folder: the path of a socket in it would be too long.
    with tempfile.TemporaryDirectory(prefix="bed-") as folder:
        settings = NodeSettings(
            Path(folder),
            name="davybed2",
            link=IPv4Network("10.243.0.0/24"),
            pods=IPv4Network("10.246.0.0/24"),
            services=IPv4Network("10.98.0.0/16"),
        )
        made = Node(settings, node.programs)
        try:
            yield made
        finally:
            made.down()


def test_a_node_that_crashed_leaves_nothing_and_its_neighbour_alone(
    node: Node, other: Node
) -> None:
    with node.server.client() as api:
        before = _uids(api)
    other.up()
    with other.server.client() as api:
        core = client.CoreV1Api(api)
        eventually("there is a service account", lambda: _account(core), PATIENCE)
        container = {"name": "pause", "image": PAUSE_IMAGE, "imagePullPolicy": "Never"}
        pod = {"metadata": {"name": "pause"}, "spec": {"containers": [container]}}
        core.create_namespaced_pod("default", pod)

        def runs() -> bool:
            return core.read_namespaced_pod("pause", "default").status.phase == "Running"

        eventually("the pod runs", runs, PATIENCE)
    # Beginning anew does nothing twice.
    running = other.running()
    other.up()
    assert other.running() == running
    inside = _processes(other)
    assert inside
    for name in ("kubelet", "containerd", "kube-apiserver"):
        pid = other.processes.pid(name)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    assert other.down() == []
    assert [pid for pid in (*inside, *running.values()) if started_at(pid or 0)] == []
    with node.server.client() as api:
        assert _uids(api) == before
    assert all(node.running().values())


def _account(core: client.CoreV1Api) -> bool:
    with suppress(client.ApiException):
        core.read_namespaced_service_account("default", "default")
        return True
    return False


def _uids(api: client.ApiClient) -> set[tuple[str, int]]:
    """Return CoreDNS' containers with how often each was started anew."""
    found = client.CoreV1Api(api).list_namespaced_pod("kube-system").items
    return {
        (pod.metadata.uid, item.restart_count)
        for pod in found
        for item in pod.status.container_statuses or ()
    }


def _processes(node: Node) -> list[int]:
    groups = (CONTROL_GROUPS / "memory").glob(f"{node.settings.name}/**/cgroup.procs")
    return [int(pid) for path in groups for pid in path.read_text().split()]
