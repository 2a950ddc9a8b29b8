"""The node's network: a namespace, a pair of links to this machine, routes; and its control groups.

Belongs here: what the kernel holds under the node's name, made and taken away.
Not here: the bridge of the pods, which CNI makes inside the namespace.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

from tests.cluster.bed.node.settings import NodeSettings

CONTROL_GROUPS = Path("/sys/fs/cgroup")
WATCHES = Path("/proc/sys/fs/inotify/max_user_instances")
ENOUGH_WATCHES = 1024
END_SECONDS = 10.0


def call(*command: str) -> str:
    """Run a program and return what it says; its complaint is the error."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"`{' '.join(command)}`: {done.stderr.strip()[-800:]}")
    return done.stdout


def make_network(node: NodeSettings) -> None:
    """Make the namespace, and reach its pods and Services from here."""
    if node.namespace.exists():
        return
    outer, inner = f"{node.name}h", f"{node.name}n"
    width = node.link.prefixlen
    call("ip", "netns", "add", node.name)
    call("ip", "link", "add", outer, "type", "veth", "peer", "name", inner, "netns", node.name)
    call("ip", "addr", "add", f"{node.host}/{width}", "dev", outer)
    call("ip", "link", "set", outer, "up")
    call(*node.inside, "ip", "link", "set", "lo", "up")
    call(*node.inside, "ip", "addr", "add", f"{node.node}/{width}", "dev", inner)
    call(*node.inside, "ip", "link", "set", inner, "up")
    call(*node.inside, "ip", "route", "add", "default", "via", str(node.host))
    for reached in (node.pods, node.services):
        call("ip", "route", "replace", str(reached), "via", str(node.node))
    for setting in (
        "net.ipv4.ip_forward=1",
        "net.ipv4.conf.all.route_localnet=1",
        "net.bridge.bridge-nf-call-iptables=1",
    ):
        call(*node.inside, "sysctl", "-qw", setting)


def remove_network(node: NodeSettings) -> None:
    if node.namespace.exists():
        call("ip", "netns", "del", node.name)
    with contextlib.suppress(RuntimeError):  # it goes with its peer, a moment later
        call("ip", "link", "del", f"{node.name}h")


def make_control_groups(node: NodeSettings) -> None:
    """Make a root of the node's own in every hierarchy.

    Two kubelets under one root end each other's pods as orphans.
    """
    for hierarchy in CONTROL_GROUPS.iterdir():
        own = hierarchy / node.name
        if hierarchy.is_symlink() or not hierarchy.is_dir() or own.exists():
            continue
        own.mkdir()
        for inherited in ("cpuset.cpus", "cpuset.mems"):
            # Empty in a new group, and nothing can be put into one where they are.
            if (hierarchy / inherited).exists():
                (own / inherited).write_text((hierarchy / inherited).read_text())


def end_what_is_in_control_groups(node: NodeSettings) -> None:
    """Kill the processes of containers that nobody holds any more."""
    until = time.monotonic() + END_SECONDS
    while (left := _processes_of(node)) and time.monotonic() < until:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _processes_of(node: NodeSettings) -> set[int]:
    found = set()
    for path in CONTROL_GROUPS.glob(f"*/{node.name}/**/cgroup.procs"):
        with contextlib.suppress(OSError):
            found.update(int(pid) for pid in path.read_text().split())
    # One of another process namespace is 0 here.
    return found - {0}


def remove_control_groups(node: NodeSettings) -> None:
    for own in CONTROL_GROUPS.glob(f"*/{node.name}"):
        for folder in sorted(
            (path for path in own.rglob("*") if path.is_dir()),
            key=lambda path: len(path.parts),
            reverse=True,
        ):
            with contextlib.suppress(OSError):
                folder.rmdir()
        with contextlib.suppress(OSError):
            own.rmdir()


def allow_watches() -> None:
    """kubelet and containerd want more file watches than a fresh kernel gives. It stays raised."""
    if int(WATCHES.read_text()) < ENOUGH_WATCHES:
        WATCHES.write_text(str(ENOUGH_WATCHES))


def mounts_below(folder: Path) -> list[str]:
    """Return what is mounted below a folder, the deepest first."""
    lines = Path("/proc/mounts").read_text().splitlines()
    places = (line.split()[1].encode().decode("unicode_escape") for line in lines)
    return sorted((place for place in places if place.startswith(f"{folder}/")), reverse=True)


def kernel_leftovers(node: NodeSettings) -> list[str]:
    """Return what the kernel still holds of a node that is down."""
    links = call("ip", "-o", "link").splitlines()
    routes = call("ip", "route").splitlines()
    return [
        *(f"mount {place}" for place in mounts_below(node.folder)),
        *([f"network namespace {node.name}"] if node.namespace.exists() else []),
        *(f"link {line.split()[1]}" for line in links if f" {node.name}h" in line),
        *(
            f"route {line}"
            for line in routes
            if any(line.startswith(str(net)) for net in (node.pods, node.services, node.link))
        ),
        *(f"control group {path}" for path in CONTROL_GROUPS.glob(f"*/{node.name}")),
    ]
