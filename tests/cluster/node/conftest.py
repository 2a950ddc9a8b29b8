"""The node that these tests share: brought up once, taken away at the end.

One that is up already (``python -m tests.cluster.bed up``) is used and left.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from tests.cluster.bed.programs import SETTING, ProgramsMissingError


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:  # noqa: F821
    """A Ready node with CoreDNS, a gateway and Prometheus."""
    from tests.cluster.bed.node.addons import start_addons
    from tests.cluster.bed.node.node import Node
    from tests.cluster.bed.node.programs import find_node_programs
    from tests.cluster.bed.node.settings import settings_here

    try:
        programs = find_node_programs()
    except ProgramsMissingError as error:
        if os.environ.get(SETTING) in {"build", "require"}:
            pytest.fail(str(error))
        pytest.skip(str(error))
    made = Node(settings_here(), programs)
    found = made.processes.alive("kubelet")
    made.settings.folder.mkdir(parents=True, exist_ok=True)
    # Two runs would each have a stand-in for KServe, and a test's namespaces are not another's.
    lock = (made.settings.folder / ".tests").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pytest.fail(f"another run of these tests uses the node in {made.settings.folder}")
    try:
        made.up()
        start_addons(made)
        yield made
    finally:
        try:
            left = [] if found else made.down()
            assert not left, left
        finally:
            lock.close()


@pytest.fixture(scope="session")
def cluster(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:  # noqa: F821
    """The node with KServe's stand-in, Davy's resource and images, and a store of packages."""
    from tests.cluster.bed.crds import inference_service_crd
    from tests.cluster.bed.kserve_node_standin import StandardOnNode
    from tests.cluster.bed.kserve_standin import running_kserve_standin
    from tests.cluster.bed.webhooks import kserve_webhooks
    from tests.cluster.node.cluster import Cluster
    from tests.cluster.node.images import take_images
    from tests.cluster.operator_bed import install

    names = take_images(node.settings, tmp_path_factory.mktemp("images"))
    node.server.install_crd(inference_service_crd())
    install(node.server)
    with ExitStack() as stack:
        stack.enter_context(kserve_webhooks(node.server, str(node.settings.host)))
        stack.enter_context(running_kserve_standin(node.server, standard=StandardOnNode))
        api = stack.enter_context(node.server.client())
        yield Cluster(node, api, names, tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="session")
def davy(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Davy]:  # noqa: F821
    """The operator and the detector in pods, as `k8s/base` has them."""
    from tests.cluster.node.installed import installed_davy

    with installed_davy(cluster, tmp_path_factory.mktemp("state")) as davy:
        yield davy
