"""etcd and kube-apiserver on free ports of loopback, with their files in one temporary folder.

Belongs here: starting, waiting, stopping, a kubeconfig for whoever asks.
Not here: what runs against it. No controller, scheduler or kubelet runs: objects stay as they are
written, nothing is garbage-collected, and a deleted namespace stays ``Terminating``.
"""

from __future__ import annotations

import base64
import itertools
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from kubernetes import client, config
from tests.cluster.bed.certificates import Authority, write_key
from tests.cluster.bed.programs import Programs
from tests.fixtures.predictor_server import free_port

READY_SECONDS = 90.0
STOP_SECONDS = 20.0
# A free port may be taken before the program binds it.
ATTEMPTS = 3


class DidNotStartError(RuntimeError):
    """A program ended, or was not ready in time; the message holds the end of its log."""


class ApiServer:
    """A running API server.

    Attributes
    ----------
    url : str
        Its address.
    kubeconfig : Path
        Of a client in ``system:masters``.
    """

    def __init__(self, folder: Path, url: str, authority: Authority) -> None:
        self.folder = folder
        self.url = url
        self.authority = authority
        self._names = itertools.count(1)
        self.kubeconfig = self.kubeconfig_for("bed-admin", "system:masters")

    def kubeconfig_for(self, user: str, group: str = "") -> Path:
        """Return a kubeconfig for a user in a group: permissions come from RBAC."""
        certificate, key = self.authority.issue(f"user-{user.replace(':', '-')}", user, group)

        def inline(path: Path) -> str:
            return base64.b64encode(path.read_bytes()).decode()

        cluster = {
            "server": self.url,
            "certificate-authority-data": inline(self.authority.certificate),
        }
        login = {
            "client-certificate-data": inline(certificate),
            "client-key-data": inline(key),
        }
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "bed", "cluster": cluster}],
            "users": [{"name": user, "user": login}],
            "contexts": [{"name": "bed", "context": {"cluster": "bed", "user": user}}],
            "current-context": "bed",
        }
        path = self.folder / f"{user.replace(':', '-')}.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        return path

    def client(self, kubeconfig: Path | None = None) -> client.ApiClient:
        """Return a new API client; the caller closes it."""
        return config.new_client_from_config(str(kubeconfig or self.kubeconfig))

    def new_namespace(self, prefix: str = "test") -> str:
        """Create a namespace of its own for a test and return its name."""
        name = f"{prefix}-{next(self._names)}"
        with self.client() as api:
            client.CoreV1Api(api).create_namespace({"metadata": {"name": name}})
        return name

    def install_crd(self, document: dict[str, Any]) -> None:
        """Create or replace a CustomResourceDefinition and wait until it is served."""
        name = document["metadata"]["name"]
        with self.client() as api:
            crds = client.ApiextensionsV1Api(api)
            try:
                crds.create_custom_resource_definition(document)
            except client.ApiException as error:
                if error.status != 409:
                    raise
                found = crds.read_custom_resource_definition(name)
                version = {"resourceVersion": found.metadata.resource_version}
                metadata = {**document["metadata"], **version}
                crds.replace_custom_resource_definition(name, {**document, "metadata": metadata})
            until = time.monotonic() + 20
            while time.monotonic() < until:
                status = crds.read_custom_resource_definition(name).status
                conditions = (status.conditions if status else None) or []
                served = {item.type for item in conditions if item.status == "True"}
                if "Established" in served and self._served(api, document):
                    return
                time.sleep(0.05)
        raise DidNotStartError(f"{name} is not served")

    @staticmethod
    def _served(api: client.ApiClient, document: dict[str, Any]) -> bool:
        # "Established" comes a moment before the resource answers.
        spec = document["spec"]
        objects = client.CustomObjectsApi(api)
        for version in (item["name"] for item in spec["versions"] if item["served"]):
            try:
                objects.list_cluster_custom_object(
                    spec["group"], version, spec["names"]["plural"], limit=1
                )
            except client.ApiException as error:
                if error.status == 404:
                    return False
                raise
        return True


@contextmanager
def running_apiserver(programs: Programs, folder: Path, *flags: str) -> Iterator[ApiServer]:
    """Start both programs, and stop them by their process ids at the end.

    ``flags`` are further ones of the API server.
    """
    for attempt in range(1, ATTEMPTS + 1):
        place = folder / f"attempt-{attempt}"
        place.mkdir(parents=True)
        started: list[subprocess.Popen[bytes]] = []
        try:
            server = _start(programs, place, started, flags)
        except DidNotStartError:
            _stop(started)
            if attempt == ATTEMPTS:
                raise
            continue
        except BaseException:
            _stop(started)
            raise
        try:
            yield server
        finally:
            _stop(started)
        return


def _start(
    programs: Programs,
    folder: Path,
    started: list[subprocess.Popen[bytes]],
    flags: tuple[str, ...],
) -> ApiServer:
    authority = Authority(folder)
    certificate, key = authority.issue("serving", "kube-apiserver")
    # Service account tokens are signed with RSA or ECDSA; RSA is what clients have always read.
    signing = folder / "service-account.key"
    write_key(rsa.generate_private_key(public_exponent=65537, key_size=2048), signing)
    etcd = f"127.0.0.1:{free_port()}"
    peer = f"http://127.0.0.1:{free_port()}"
    port = free_port()

    def start(name: str, *command: str) -> None:
        with (folder / f"{name}.log").open("wb") as log:
            started.append(
                subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
            )

    tls = f"--cert-file={certificate} --key-file={key} --trusted-ca-file={authority.certificate}"
    start(
        "etcd",
        str(programs.etcd),
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls=https://{etcd}",
        f"--advertise-client-urls=https://{etcd}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        *tls.split(),
        "--client-cert-auth",
        # The data ends with the test run.
        "--unsafe-no-fsync",
        "--log-level=warn",
    )
    start(
        "kube-apiserver",
        str(programs.kube_apiserver),
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={port}",
        f"--etcd-servers=https://{etcd}",
        f"--etcd-cafile={authority.certificate}",
        f"--etcd-certfile={certificate}",
        f"--etcd-keyfile={key}",
        f"--tls-cert-file={certificate}",
        f"--tls-private-key-file={key}",
        f"--client-ca-file={authority.certificate}",
        f"--service-account-key-file={signing}",
        f"--service-account-signing-key-file={signing}",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--authorization-mode=RBAC",
        # No controller makes service accounts here.
        "--disable-admission-plugins=ServiceAccount",
        "--endpoint-reconciler-type=none",
        "--profiling=false",
        *flags,
    )
    server = ApiServer(folder, f"https://127.0.0.1:{port}", authority)
    _wait_ready(server, authority, folder, started)
    return server


def _wait_ready(
    server: ApiServer,
    authority: Authority,
    folder: Path,
    started: list[subprocess.Popen[bytes]],
) -> None:
    context = ssl.create_default_context(cafile=str(authority.certificate))
    context.load_cert_chain(*authority.issue("probe", "bed-probe", "system:masters"))
    opener = urllib.request.build_opener(
        urllib.request.HTTPSHandler(context=context), urllib.request.ProxyHandler({})
    )
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until:
        if any(process.poll() is not None for process in started):
            break
        try:
            with opener.open(f"{server.url}/readyz", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    ends = "\n".join(
        f"{log.name}: {log.read_text(errors='replace')[-1500:]}" for log in folder.glob("*.log")
    )
    raise DidNotStartError(f"the API server is not ready\n{ends}")


def _stop(started: list[subprocess.Popen[bytes]]) -> None:
    # The API server first: it would complain of a gone etcd for its whole shutdown.
    for process in reversed(started):
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
