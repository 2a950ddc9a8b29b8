"""etcd and kube-apiserver, built once from their Go modules and kept in a cache folder.

Belongs here: versions, where the programs are kept, how they are built.
Not here: starting them (`apiserver`).

Nothing is downloaded as a binary: Go's module proxy gives the sources and checks them against the
checksum database. ``python -m tests.cluster.bed.programs`` builds what is missing.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

KUBERNETES = "1.34.4"
ETCD = "3.6.16"

BUILD_COMMAND = ".venv/bin/python -m tests.cluster.bed.programs"
# Set to "build" where the tests may build what is missing, to "require" where a skip is an error.
SETTING = "DAVY_BED"

# k8s.io/kubernetes names its own staging modules v0.0.0: each has to be pointed at its release.
STAGING = (
    "api",
    "apiextensions-apiserver",
    "apimachinery",
    "apiserver",
    "cli-runtime",
    "client-go",
    "cloud-provider",
    "cluster-bootstrap",
    "code-generator",
    "component-base",
    "component-helpers",
    "controller-manager",
    "cri-api",
    "cri-client",
    "csi-translation-lib",
    "dynamic-resource-allocation",
    "endpointslice",
    "externaljwt",
    "kms",
    "kube-aggregator",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
    "metrics",
    "mount-utils",
    "pod-security-admission",
    "sample-apiserver",
    "sample-cli-plugin",
    "sample-controller",
)


class ProgramsMissingError(Exception):
    """The programs are not in the cache and may not, or cannot, be built here."""


@dataclass(frozen=True, slots=True)
class Programs:
    """Paths of the two programs."""

    etcd: Path
    kube_apiserver: Path

    def complete(self) -> bool:
        return all(os.access(path, os.X_OK) for path in (self.etcd, self.kube_apiserver))


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where programs of these versions are kept."""
    base = environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "davy" / "bed" / f"kubernetes-{KUBERNETES}-etcd-{ETCD}"


def find_programs(environ: Mapping[str, str] = os.environ) -> Programs:
    """Return the cached programs; build them first where the setting says so.

    Raises
    ------
    ProgramsMissingError
        They are not there, and are not to be built, or cannot be.
    """
    folder = cache_folder(environ)
    programs = Programs(folder / "etcd", folder / "kube-apiserver")
    if programs.complete():
        return programs
    if environ.get(SETTING) != "build":
        raise ProgramsMissingError(
            f"etcd and kube-apiserver are not in {folder}: build them once with "
            f"`{BUILD_COMMAND}`, or set {SETTING}=build (Go, about 8 CPU minutes, 130 MB)"
        )
    build(folder)
    return programs


def build(folder: Path) -> None:
    """Build both programs into a folder; one builder at a time.

    Raises
    ------
    ProgramsMissingError
        There is no Go, or the build fails.
    """
    go = find_go()
    with only_builder(folder):
        if not (folder / "etcd").exists():
            build_program(go, folder, "etcd", "go.etcd.io/etcd/server/v3", f"v{ETCD}", "-s -w")
        if not (folder / "kube-apiserver").exists():
            package = "k8s.io/kubernetes/cmd/kube-apiserver"
            build_program(go, folder, "kube-apiserver", package, f"v{KUBERNETES}", version_flags())


def find_go() -> str:
    """Return the path of Go; raises `ProgramsMissingError`."""
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        raise ProgramsMissingError("go is not on the PATH: install Go 1.24 or newer")
    return go


def build_program(go: str, folder: Path, name: str, package: str, version: str, flags: str) -> None:
    """Build one program of a module, at a version, into a folder."""
    source = folder / "source" / name
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    environ = {**os.environ, "GOFLAGS": "-buildvcs=false -mod=mod", "CGO_ENABLED": "0"}

    def run(*command: str) -> None:
        done = subprocess.run(
            ["nice", "-n", "5", go, *command],
            cwd=source,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ProgramsMissingError(
                f"`go {command[0]}` for {name} fails: {done.stderr.strip()[-500:]}"
            )

    run("mod", "init", f"local/{name}")
    if package.startswith("k8s.io/kubernetes/"):
        staged = re.sub(r"^v1\.", "v0.", version)
        replaced = [f"-replace=k8s.io/{part}=k8s.io/{part}@{staged}" for part in STAGING]
        run("mod", "edit", f"-require=k8s.io/kubernetes@{version}", *replaced)
    else:
        run("get", f"{package}@{version}")
    run("build", "-p", "2", "-ldflags", flags, "-o", str(source / name), package)
    # Last and at once: a program that is there is a whole one.
    (source / name).rename(folder / name)
    shutil.rmtree(source)


def version_flags() -> str:
    """Return the linker's flags of a program of Kubernetes."""
    # Without them the server says that it is v0.0.0-master, and clients believe it.
    major, minor, _ = KUBERNETES.split(".")
    values = {"gitVersion": f"v{KUBERNETES}", "gitMajor": major, "gitMinor": minor}
    stamped = (
        f"-X {package}.{name}={value}"
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
        for name, value in {**values, "gitTreeState": "clean"}.items()
    )
    return " ".join(["-s", "-w", *stamped])


@contextmanager
def only_builder(folder: Path) -> Iterator[None]:
    """Hold a folder of programs while something is built into it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Build what is missing and say what it took."""
    folder = cache_folder()
    began = time.monotonic()
    try:
        build(folder)
    except ProgramsMissingError as error:
        sys.stderr.write(f"error: {error}\n")
        return 69
    spent = os.times()
    sys.stdout.write(
        f"etcd {ETCD} and kube-apiserver {KUBERNETES} in {folder}: "
        f"{time.monotonic() - began:.0f} s, "
        f"{spent.children_user + spent.children_system:.0f} CPU s\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
