"""The programs of a whole node: built once from their Go modules, or Debian's, or PyPI's.

Belongs here: versions, which ones, where they are kept, what is missing and how to get it.
Not here: how a Go module is built (`tests.cluster.bed.programs`).

``python -m tests.cluster.bed.node.programs`` builds and installs what is missing.
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

COREDNS = "1.14.7"
# Traefik 3.7 needs the TLSRoute of this one: with an older one a Gateway is never programmed.
GATEWAY_API = "1.5.1"

BUILD_COMMAND = ".venv/bin/python -m tests.cluster.bed.node.programs"

KUBERNETES = ("kubelet", "kube-controller-manager", "kube-scheduler", "kube-proxy")
PAUSE = Path(__file__).parent / "pause.go"
CNI = Path("/usr/lib/cni")
# It is there where all control groups are of version 2.
UNIFIED = Path("/sys/fs/cgroup/cgroup.controllers")
# Program -> the Debian package that it comes from.
DEBIAN = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "ip": "iproute2",
    "nft": "nftables",
    # The bridge's masquerading is CNI's, which still asks for it by this name.
    "iptables": "iptables",
    "sysctl": "procps",
    "prometheus": "prometheus",
}


@dataclass(frozen=True, slots=True)
class NodePrograms:
    """Where everything is."""

    plane: programs.Programs
    kubernetes: Path
    coredns: Path
    pause: Path
    gateway_api: Path
    traefik: Path

    def program(self, name: str) -> str:
        """Return the path of a program of Kubernetes, or the name of one of Debian's."""
        return str(self.kubernetes / name) if name in KUBERNETES else name


def find_node_programs(environ: Mapping[str, str] = os.environ) -> NodePrograms:
    """Return the programs; build what Go builds first, where the setting says so.

    Raises
    ------
    ProgramsMissingError
        Something is not there, with the command that brings it; or this is no place for a node.
    """
    if os.geteuid() != 0:
        raise programs.ProgramsMissingError("a node needs root: namespaces, mounts, control groups")
    if UNIFIED.exists():
        raise programs.ProgramsMissingError(
            "this node knows control groups of version 1 alone, and the machine has version 2"
        )
    found = _places(environ)
    if missing := missing_from_debian():
        raise programs.ProgramsMissingError(
            f"a node needs Debian's {', '.join(missing)}: `apt-get install {' '.join(missing)}`"
        )
    if not found.traefik.exists():
        raise programs.ProgramsMissingError("traefik is not installed: `make setup` brings it")
    if absent := _not_built(found):
        if environ.get(programs.SETTING) != "build":
            raise programs.ProgramsMissingError(
                f"{', '.join(absent)} not in {found.kubernetes.parent}: build them once with "
                f"`{BUILD_COMMAND}`, or set {programs.SETTING}=build (Go, about 12 CPU minutes, "
                "600 MB)"
            )
        build_node_programs(found)
    return found


def missing_from_debian() -> list[str]:
    """Return the Debian packages that have to be installed."""
    missing = {package for program, package in DEBIAN.items() if shutil.which(program) is None}
    if not (CNI / "bridge").exists():
        missing.add("containernetworking-plugins")
    return sorted(missing)


def build_node_programs(found: NodePrograms) -> None:
    """Build what is missing; one builder at a time. Raises `ProgramsMissingError`."""
    go = programs.find_go()
    if not found.plane.complete():
        programs.build(found.kubernetes)
    with programs.only_builder(found.kubernetes):
        for name in KUBERNETES:
            if not (found.kubernetes / name).exists():
                package = f"k8s.io/kubernetes/cmd/{name}"
                version, flags = f"v{programs.KUBERNETES}", programs.version_flags()
                programs.build_program(go, found.kubernetes, name, package, version, flags)
    with programs.only_builder(found.coredns.parent):
        if not found.coredns.exists():
            package = "github.com/coredns/coredns"
            programs.build_program(
                go, found.coredns.parent, "coredns", package, f"v{COREDNS}", "-s -w"
            )
    if not found.gateway_api.is_dir():
        _fetch_gateway_api(go, found.gateway_api)
    if not found.pause.exists():
        _go(go, found.pause.parent, "build", "-ldflags", "-s -w", "-o", str(found.pause),
            str(PAUSE))  # fmt: skip


def _places(environ: Mapping[str, str]) -> NodePrograms:
    kubernetes = programs.cache_folder(environ)
    base = kubernetes.parent
    return NodePrograms(
        plane=programs.Programs(kubernetes / "etcd", kubernetes / "kube-apiserver"),
        kubernetes=kubernetes,
        coredns=base / f"coredns-{COREDNS}" / "coredns",
        pause=base / "pause-1" / "pause",
        gateway_api=base / f"gateway-api-{GATEWAY_API}",
        traefik=Path(sys.executable).parent / "traefik",
    )


def _not_built(found: NodePrograms) -> list[str]:
    wanted = {
        "etcd": found.plane.etcd,
        "kube-apiserver": found.plane.kube_apiserver,
        **{name: found.kubernetes / name for name in KUBERNETES},
        "coredns": found.coredns,
        "pause": found.pause,
        "the Gateway API's resources": found.gateway_api,
    }
    return [name for name, path in wanted.items() if not path.exists()]


def _fetch_gateway_api(go: str, folder: Path) -> None:
    """Copy the CustomResourceDefinitions out of the module."""
    with programs.only_builder(folder.parent):
        answer = _go(go, folder.parent, "mod", "download", "-json",
                     f"sigs.k8s.io/gateway-api@v{GATEWAY_API}")  # fmt: skip
        source = Path(json.loads(answer)["Dir"]) / "config/crd/standard"
        unfinished = folder.with_suffix(".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        for path in source.glob("gateway.networking.k8s.io_*s.yaml"):
            if "_vap_" not in path.name:  # a policy that guards upgrades: there are none here
                (unfinished / path.name).write_bytes(path.read_bytes())
        unfinished.rename(folder)


def _go(go: str, folder: Path, *command: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    environ = {**os.environ, "GOFLAGS": "-buildvcs=false", "CGO_ENABLED": "0"}
    done = subprocess.run(
        [go, *command], cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise programs.ProgramsMissingError(f"`go {command[0]}`: {done.stderr.strip()[-500:]}")
    return done.stdout


def main() -> int:
    """Install and build what is missing, and say what it took."""
    began = time.monotonic()
    try:
        if missing := missing_from_debian():
            quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            subprocess.run(["apt-get", "update", "-qq"], check=True)
            install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
            subprocess.run(install, check=True, env=quiet)
        find_node_programs({**os.environ, programs.SETTING: "build"})
    except programs.ProgramsMissingError as error:
        sys.stderr.write(f"error: {error}\n")
        return 69
    spent = os.times()
    sys.stdout.write(
        f"the programs of a node are in {programs.cache_folder().parent}: "
        f"{time.monotonic() - began:.0f} s, "
        f"{spent.children_user + spent.children_system:.0f} CPU s\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
