"""The node itself: up, down, and what is left of it.

Belongs here: the order of the steps. Not here: the steps (the modules beside this one), what runs
on the node (`addons`).

Every step does only what is missing, so that `up` also finishes what was begun.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from kubernetes import client
from tests.cluster.bed.apiserver import ApiServer, DidNotStartError
from tests.cluster.bed.certificates import Authority, write_key
from tests.cluster.bed.node import configuration, network, runtime
from tests.cluster.bed.node.archive import write_archive
from tests.cluster.bed.node.processes import Processes
from tests.cluster.bed.node.programs import NodePrograms
from tests.cluster.bed.node.settings import NodeSettings
from urllib3.exceptions import HTTPError

COMPONENTS = {
    "kube-controller-manager": ("system:kube-controller-manager", ""),
    "kube-scheduler": ("system:kube-scheduler", ""),
    "kube-proxy": ("system:kube-proxy", ""),
}
# What the others need ends last.
LAST = ("kube-apiserver", "containerd", "etcd")
# Fixed folders of kubelet, CNI and the shims, whatever they are told; removed when empty.
FIXED = (
    "/var/lib/cni/results",
    "/var/lib/cni",
    "/run/containerd/s",
    "/run/containerd",
    "/var/lib/kubelet/device-plugins",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
)


def wait_until(
    what: str, check: Callable[[], bool], seconds: float, why: Callable[[], str] = str
) -> None:
    """Wait by the clock: a check that takes long itself must not stretch the limit."""
    until = time.monotonic() + seconds
    while not check():
        if time.monotonic() > until:
            raise DidNotStartError(f"not within {seconds:g} s: {what}\n{why()}")
        time.sleep(0.1)


@dataclass
class Node:
    """A node that is up, or will be.

    Attributes
    ----------
    server : ApiServer
        Its API server; absent before `up`.
    times : list of (str, float)
        Steps of the last `up`, with seconds since it began.
    """

    settings: NodeSettings
    programs: NodePrograms
    times: list[tuple[str, float]] = field(default_factory=list)

    @property
    def processes(self) -> Processes:
        return Processes(self.settings.run / "pids", self.settings.logs)

    @property
    def server(self) -> ApiServer:
        place = self.settings.certificates
        return ApiServer(place, self.settings.api_url, Authority(place))

    def up(self) -> None:
        """Bring it up, or what is missing of it, until the node is Ready."""
        began = time.monotonic()
        self.times.clear()

        def done(step: str) -> None:
            self.times.append((step, time.monotonic() - began))

        with self._alone():
            if not self.settings.run.exists():
                # Of the last time: kept until now for who wants to know how that ended.
                shutil.rmtree(self.settings.logs, ignore_errors=True)
            keys = self._keys()
            network.make_network(self.settings)
            network.make_control_groups(self.settings)
            network.allow_watches()
            done("certificates, network")
            self._control_plane(keys)
            done("etcd, kube-apiserver")
            self._runtime()
            done("containerd")
            self._kubelet(keys)
            done("node Ready")

    def start(self, name: str, *command: str, environ: dict[str, str] | None = None) -> None:
        """Start a program in the node's network."""
        self.processes.start(name, command, inside=self.settings.inside, environ=environ)

    def down(self) -> list[str]:
        """End and remove everything but programs and logs; return what is left all the same."""
        if not self.settings.run.exists() and not self.leftovers():
            return []
        with self._alone():
            processes = self.processes
            # kubelet waits for nobody when it is killed: its pods are ended below.
            processes.stop("kubelet", signal.SIGKILL)
            for name in processes.names():
                if name not in LAST:
                    processes.stop(name)
            if processes.alive("containerd") and runtime.answers(self.settings):
                runtime.end_containers(self.settings)
            processes.stop("kube-apiserver", signal.SIGKILL)
            processes.stop("containerd")
            processes.stop("etcd", signal.SIGKILL)
            runtime.end_shims(self.settings)
            network.end_what_is_in_control_groups(self.settings)
            for place in network.mounts_below(self.settings.folder):
                network.call("umount", "-l", place)
            network.remove_network(self.settings)
            network.remove_control_groups(self.settings)
            self._remove_files()
            with contextlib.suppress(DidNotStartError):  # what is left is told below
                wait_until(
                    "nothing is left",
                    lambda: not network.kernel_leftovers(self.settings),
                    5,
                )
        return self.leftovers()

    def leftovers(self) -> list[str]:
        """Return what of a node that is down is still there."""
        return [
            *network.kernel_leftovers(self.settings),
            *(f"process {pid} (a container's)" for pid in runtime.shims(self.settings)),
            *(f"process {name}" for name in self.processes.names()),
            *(f"file {path}" for path in Path("/var/lib/cni/results").glob(self._results)),
        ]

    def running(self) -> dict[str, int | None]:
        """Return the process of each program that was started, None for one that has ended."""
        return {name: self.processes.pid(name) for name in self.processes.names()}

    @property
    def _results(self) -> str:
        return f"{self.settings.name}-*"

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.settings.folder.mkdir(parents=True, exist_ok=True)
        with (self.settings.folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DidNotStartError("somebody else brings this node up or down") from None
            yield

    def _keys(self) -> configuration.Credentials:
        node = self.settings
        node.certificates.mkdir(parents=True, exist_ok=True, mode=0o700)
        authority = Authority(node.certificates)
        tokens = node.certificates / "tokens.key"

        def pair(name: str) -> tuple[Path, Path]:
            return node.certificates / f"{name}.crt", node.certificates / f"{name}.key"

        user = f"system:node:{node.name}"
        if not tokens.exists():
            own = [str(node.node), str(node.api_service), "kubernetes", "kubernetes.default"]
            own += ["kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
            authority.issue("serving", "kube-apiserver", hosts=own)
            authority.issue("plane", "kube-apiserver-client", "system:masters")
            kubelet = [str(node.node), node.name]
            authority.issue("kubelet", user, "system:nodes", hosts=kubelet)
            for component, (name, group) in COMPONENTS.items():
                made = self.server.kubeconfig_for(name, group)
                made.rename(node.certificates / f"{component}.kubeconfig")
            made = self.server.kubeconfig_for(user, "system:nodes")
            made.rename(node.certificates / "kubelet.kubeconfig")
            write_key(rsa.generate_private_key(public_exponent=65537, key_size=2048), tokens)
        return configuration.Credentials(
            authority=authority.certificate,
            serving=pair("serving"),
            client=pair("plane"),
            kubelet=pair("kubelet"),
            tokens=tokens,
            kubeconfigs={
                name: node.certificates / f"{name}.kubeconfig" for name in (*COMPONENTS, "kubelet")
            },
        )

    def _control_plane(self, keys: configuration.Credentials) -> None:
        node, programs = self.settings, self.programs
        self.start("etcd", *configuration.etcd(node, programs, keys))
        self.start("kube-apiserver", *configuration.kube_apiserver(node, programs, keys))
        wait_until("the API server is ready", self._api_ready, 120, self._ends)
        self.start(
            "kube-controller-manager", *configuration.kube_controller_manager(node, programs, keys)
        )
        self.start("kube-scheduler", *configuration.kube_scheduler(node, programs, keys))

    def _runtime(self) -> None:
        node = self.settings
        write_once(node.configuration / "containerd.toml", configuration.containerd(node))
        write_once(node.configuration / "cni/10-bed.conflist", configuration.cni(node))
        command = f"--config={node.configuration / 'containerd.toml'}", "--log-level=warn"
        self.start("containerd", "containerd", *command)
        wait_until("containerd answers", lambda: runtime.answers(node), 60, self._ends)
        archive = node.run / "pause.tar"
        if not archive.exists():
            files = {"/pause": self.programs.pause}
            write_archive(archive, configuration.PAUSE_IMAGE, files, ["/pause"])
        runtime.import_image(node, archive)

    def _kubelet(self, keys: configuration.Credentials) -> None:
        node, programs = self.settings, self.programs
        write_once(node.configuration / "resolv.conf", f"nameserver {node.host}\n")
        write_once(node.configuration / "kubelet.yaml", configuration.kubelet(node, keys))
        write_once(node.configuration / "kube-proxy.yaml", configuration.kube_proxy(node, keys))
        self.start("kubelet", *configuration.kubelet_command(node, programs, keys))
        proxy = f"--config={node.configuration / 'kube-proxy.yaml'}"
        self.start("kube-proxy", programs.program("kube-proxy"), proxy)
        wait_until("the node is Ready", self._node_ready, 120, self._ends)

    def _api_ready(self) -> bool:
        with self.server.client() as api:
            try:
                api.call_api("/readyz", "GET", response_type="str", _request_timeout=5)
            except (client.ApiException, HTTPError, OSError):
                return False
        return True

    def _node_ready(self) -> bool:
        with self.server.client() as api:
            try:
                found = client.CoreV1Api(api).read_node(self.settings.name)
            except client.ApiException:
                return False
        return any(
            item.type == "Ready" and item.status == "True" for item in found.status.conditions
        )

    def _ends(self) -> str:
        """Return which programs run, and the end of what each wrote."""
        return "\n".join(
            f"{name} ({'runs' if pid else 'has ended'}): {self.processes.log_end(name)}"
            for name, pid in self.running().items()
        )

    def _remove_files(self) -> None:
        node = self.settings
        # The folder by which a node is known goes last: what is interrupted is gone on with.
        for name in ("etcd", "kubelet", "containerd", "pod-logs", "run"):
            shutil.rmtree(node.folder / name, ignore_errors=True)
        for path in Path("/var/lib/cni/results").glob(self._results):
            identity = path.name.removeprefix(f"{node.name}-").removesuffix("-eth0")
            path.unlink()
            (path.parent / f"cni-loopback-{identity}-lo").unlink(missing_ok=True)
        socket = Path("/var/lib/kubelet/device-plugins/kubelet.sock")
        if not _kubelet_runs():
            socket.unlink(missing_ok=True)
        for place in FIXED:
            with contextlib.suppress(OSError):
                Path(place).rmdir()


def write_once(path: Path, text: str) -> None:
    """Write a file only when it says something else: kube-proxy ends itself when its is touched."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _kubelet_runs() -> bool:
    for path in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            if path.read_text().strip() == "kubelet":
                return True
    return False
