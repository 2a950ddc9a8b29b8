"""What is asked of the node's containerd: images in, containers out.

Belongs here: calls of ``ctr``. Not here: what the images are, when they are needed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from tests.cluster.bed.node.network import call
from tests.cluster.bed.node.settings import NodeSettings

STOP_SECONDS = 10.0


def ctr(node: NodeSettings, *command: str) -> str:
    """Call containerd about what Kubernetes runs."""
    return call("ctr", "-a", str(node.socket), "-n", "k8s.io", *command)


def answers(node: NodeSettings) -> bool:
    try:
        ctr(node, "version")
    except RuntimeError:
        return False
    return True


def import_image(node: NodeSettings, archive: Path) -> None:
    """Take the images of an archive, unless this very archive was taken already."""
    stat = archive.stat()
    mark = node.run / "imported" / f"{archive.name}-{stat.st_mtime_ns}-{stat.st_size}"
    if not mark.exists():
        ctr(node, "images", "import", str(archive))
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()


def images(node: NodeSettings) -> list[str]:
    return ctr(node, "images", "ls", "-q").split()


def end_containers(node: NodeSettings) -> None:
    """End and remove every container: nobody watches over them any more."""
    for task in _tasks(node):
        with contextlib.suppress(RuntimeError):
            ctr(node, "tasks", "kill", "-a", "-s", "KILL", task)
    until = time.monotonic() + STOP_SECONDS
    while "RUNNING" in ctr(node, "tasks", "ls") and time.monotonic() < until:
        time.sleep(0.1)
    for kind, words in (("tasks", ("rm", "-f")), ("containers", ("rm",))):
        for name in ctr(node, kind, "ls", "-q").split():
            with contextlib.suppress(RuntimeError):
                ctr(node, kind, *words, name)


def shims(node: NodeSettings) -> list[int]:
    """Return the processes that hold containers: they outlive containerd."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"containerd-shim" in words[0] and str(node.socket).encode() in words:
            found.append(int(path.parent.name))
    return found


def end_shims(node: NodeSettings) -> None:
    for pid in shims(node):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _tasks(node: NodeSettings) -> list[str]:
    return ctr(node, "tasks", "ls", "-q").split()
