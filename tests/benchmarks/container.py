"""An image run as a cluster would run it: read-only root, as nobody, no capabilities.

Belongs here: its files, the runtime's configuration and command. Not here: what is asked of it.

The OCI runtime is crun, on the files that Buildah holds; both need root.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NOBODY = 65532
# Where cgroups 1 and 2 are mounted side by side, the runtime is confused by both: it gets neither.
WITHOUT_CGROUPS = (
    "umount /sys/fs/cgroup/unified 2>/dev/null; mount -t tmpfs none /sys/fs/cgroup && "
    'exec crun --cgroup-manager=disabled run --bundle "$1" "$2"'
)
# Processes of the runtime: none of the image's.
RUNTIME = ("crun", "sh", "unshare")


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder or file of the host in a container."""

    path: Path
    writable: bool = False


def require() -> None:
    """End the program where the runtime is not installed."""
    for program in ("buildah", "crun", "unshare"):
        if shutil.which(program) is None:
            sys.exit(f"error: no {program}: apt-get install buildah crun util-linux")


@contextmanager
def unpacked(image: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Give an image's files and its configuration."""
    about = json.loads(output("buildah", "inspect", "--type", "image", image))
    container = output("buildah", "from", "--pull-never", image)
    try:
        yield Path(output("buildah", "mount", container)), about["OCIv1"]["config"]
    finally:
        subprocess.run(["buildah", "rm", container], check=False, capture_output=True)


def output(*command: str) -> str:
    """Return what a command writes, or end the program with what it complained of."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(command)}: {done.stderr.strip()}")
    return done.stdout.strip()


def bundle_config(
    root: Path,
    about: Mapping[str, Any],
    variables: Mapping[str, str],
    mounts: Mapping[str, Mount],
    *,
    arguments: Sequence[str] = (),
    entrypoint: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Return an OCI runtime configuration: what ``readOnlyRootFilesystem`` and the like come to.

    Parameters
    ----------
    root, about
        As `unpacked` gives them.
    variables : Mapping
        Added to the image's own.
    mounts : Mapping
        By where they are in the container.
    arguments : sequence of str
        A pod's ``args``.
    entrypoint : sequence of str, optional
        A pod's ``command``; the image's own where left out.
    """
    locked = ["nosuid", "nodev", "noexec"]
    own = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": locked},  # noqa: S108
        {"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", "ro"]},
    ]
    given = [
        {
            "destination": at,
            "type": "bind",
            "source": str(mount.path),
            "options": ["rbind", "rw" if mount.writable else "ro"],
        }
        for at, mount in mounts.items()
    ]
    kinds = ("bounding", "effective", "permitted", "inheritable", "ambient")
    return {
        "ociVersion": "1.0.2",
        "root": {"path": str(root), "readonly": True},
        "mounts": [*own, *given],
        "process": {
            "user": {"uid": NOBODY, "gid": NOBODY},
            "args": [*(about["Entrypoint"] if entrypoint is None else entrypoint), *arguments],
            "env": [*about["Env"], *(f"{k}={v}" for k, v in variables.items())],
            "cwd": about["WorkingDir"],
            "noNewPrivileges": True,
            "capabilities": {kind: [] for kind in kinds},
        },
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")]},
    }


def run_command(config: Mapping[str, Any], work: Path, name: str) -> list[str]:
    """Write a bundle below `work` and return the command that runs it in the foreground."""
    bundle = work / "bundle"
    bundle.mkdir(exist_ok=True)
    (bundle / "config.json").write_text(json.dumps(config))
    outer = ["unshare", "--mount", "--propagation", "private", "sh", "-c", WITHOUT_CGROUPS]
    return [*outer, "sh", str(bundle), f"davy-{name}-{os.getpid()}"]


def weight(folder: Path) -> float:
    """Return the MB of all files below a folder, a file of several names once."""
    seen = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        seen[status.st_dev, status.st_ino] = status.st_size if not path.is_dir() else 0
    return sum(seen.values()) / 1e6
