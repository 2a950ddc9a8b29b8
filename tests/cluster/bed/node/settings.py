"""Names, addresses and folders of one node.

Belongs here: where everything is. Not here: making any of it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from tests.cluster.bed.programs import cache_folder

# A UNIX socket's path is at most 107 bytes.
LONGEST_SOCKET = 107
LINK = IPv4Network("10.241.0.0/24")
PODS = IPv4Network("10.244.0.0/24")
SERVICES = IPv4Network("10.96.0.0/16")


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """One node; two on one machine differ in all of these.

    Attributes
    ----------
    folder : Path
        State: certificates, containers, logs. It goes with the node, but for the logs.
    name : str
        Of the node, the network namespace, the CNI network and the root of the control groups; at
        most 11 characters, because links are named after it.
    link, pods, services : IPv4Network
        Between this machine and the node, of the pods, of the Services.
    """

    folder: Path
    name: str = "davybed"
    link: IPv4Network = LINK
    pods: IPv4Network = PODS
    services: IPv4Network = SERVICES

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= 11:
            raise ValueError(f"{self.name}: at most 11 characters, links are named after it")
        if len(str(self.socket)) > LONGEST_SOCKET:
            raise ValueError(f"{self.folder}: too long a path for a socket in it")

    @property
    def host(self) -> IPv4Address:
        """This machine, as the node and its pods reach it."""
        return self.link[1]

    @property
    def node(self) -> IPv4Address:
        return self.link[2]

    @property
    def api_service(self) -> IPv4Address:
        return self.services[1]

    @property
    def dns(self) -> IPv4Address:
        return self.services[10]

    @property
    def api_url(self) -> str:
        return f"https://{self.node}:6443"

    @property
    def gateway_url(self) -> str:
        return f"http://{self.node}"

    @property
    def prometheus_url(self) -> str:
        return f"http://{self.node}:9090"

    @property
    def namespace(self) -> Path:
        return Path("/run/netns") / self.name

    @property
    def run(self) -> Path:
        """What lives as long as the node."""
        return self.folder / "run"

    @property
    def logs(self) -> Path:
        return self.folder / "log"

    @property
    def configuration(self) -> Path:
        return self.run / "conf"

    @property
    def certificates(self) -> Path:
        return self.run / "pki"

    @property
    def socket(self) -> Path:
        return self.run / "containerd.sock"

    @property
    def inside(self) -> tuple[str, ...]:
        """What runs a command in the node's network, and changes nothing else.

        ``ip netns exec`` would mount /sys anew and hide the control groups of version 1.
        """
        return ("nsenter", f"--net={self.namespace}")


def settings_here(environ: Mapping[str, str] = os.environ) -> NodeSettings:
    """Return the settings of this machine's node."""
    return NodeSettings(cache_folder(environ).parent / "node")
