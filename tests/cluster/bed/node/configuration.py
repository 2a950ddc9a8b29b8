"""What the node's programs are told: files and command lines, from its settings alone.

Belongs here: the texts, and why they differ from the defaults. Not here: starting anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tests.cluster.bed.node.programs import CNI, NodePrograms
from tests.cluster.bed.node.settings import NodeSettings

PAUSE_IMAGE = "davy.local/pause:1"
ETCD = "127.0.0.1:2379"
PEER = "http://127.0.0.1:2380"
PLUGIN = 'plugins."io.containerd.grpc.v1.cri"'


@dataclass(frozen=True, slots=True)
class Credentials:
    """Files of keys and certificates, and kubeconfigs by component."""

    authority: Path
    serving: tuple[Path, Path]
    client: tuple[Path, Path]
    kubelet: tuple[Path, Path]
    tokens: Path
    kubeconfigs: Mapping[str, Path]


def containerd(node: NodeSettings) -> str:
    """A containerd that shares nothing with another one on the machine."""
    return f"""
version = 2
root = "{node.folder}/containerd"
state = "{node.run}/containerd"
oom_score = 0
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = "{node.socket}"
[{PLUGIN}]
  sandbox_image = "{PAUSE_IMAGE}"
  # Without CAP_SYS_RESOURCE no process may be made less killable.
  restrict_oom_score_adj = true
  disable_apparmor = true
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  [{PLUGIN}.cni]
    bin_dir = "{CNI}"
    conf_dir = "{node.configuration}/cni"
  [{PLUGIN}.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [{PLUGIN}.containerd.runtimes.runc.options]
      SystemdCgroup = false
      Root = "{node.run}/runc"
"""


def cni(node: NodeSettings) -> str:
    """The pods' bridge. Results are kept in one fixed folder under the network's name."""
    addresses = {
        "type": "host-local",
        "dataDir": str(node.run / "ipam"),
        "ranges": [[{"subnet": str(node.pods)}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": addresses,
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "1.0.0", "name": node.name, "plugins": [bridge, ports]})


def kubelet(node: NodeSettings, keys: Credentials) -> str:
    never = dict.fromkeys(
        ("nodefs.available", "nodefs.inodesFree", "imagefs.available", "imagefs.inodesFree"), "0%"
    )
    document: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(keys.authority)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(keys.kubelet[0]),
        "tlsPrivateKeyFile": str(keys.kubelet[1]),
        "containerRuntimeEndpoint": f"unix://{node.socket}",
        "podLogsDir": str(node.folder / "pod-logs"),
        "volumePluginDir": str(node.run / "volume-plugins"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{node.name}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "protectKernelDefaults": False,
        "makeIPTablesUtilChains": False,
        "oomScoreAdj": 0,
        "maxOpenFiles": 20_000,
        "clusterDNS": [str(node.dns)],
        "clusterDomain": "cluster.local",
        "resolvConf": str(node.configuration / "resolv.conf"),
        # The machine's disk is not the node's: it is not to evict because of that.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "100Mi", **never},
        "nodeStatusUpdateFrequency": "5s",
        "syncFrequency": "10s",
        "maxPods": 110,
    }
    return yaml.safe_dump(document)


def kube_proxy(node: NodeSettings, keys: Credentials) -> str:
    """Its file must not be written again while it runs: it ends itself then."""
    document = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(keys.kubeconfigs["kube-proxy"])},
        "hostnameOverride": node.name,
        "mode": "nftables",
        "clusterCIDR": str(node.pods),
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "oomScoreAdj": 0,
        # A namespace may not set the machine's table of connections.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }
    return yaml.safe_dump(document)


def etcd(node: NodeSettings, programs: NodePrograms, keys: Credentials) -> list[str]:
    return [
        str(programs.plane.etcd),
        "--name=bed",
        f"--data-dir={node.folder / 'etcd'}",
        f"--listen-client-urls=https://{ETCD}",
        f"--advertise-client-urls=https://{ETCD}",
        f"--listen-peer-urls={PEER}",
        f"--initial-advertise-peer-urls={PEER}",
        f"--initial-cluster=bed={PEER}",
        f"--cert-file={keys.serving[0]}",
        f"--key-file={keys.serving[1]}",
        f"--trusted-ca-file={keys.authority}",
        "--client-cert-auth",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def kube_apiserver(node: NodeSettings, programs: NodePrograms, keys: Credentials) -> list[str]:
    return [
        str(programs.plane.kube_apiserver),
        f"--advertise-address={node.node}",
        "--bind-address=0.0.0.0",
        "--secure-port=6443",
        f"--etcd-servers=https://{ETCD}",
        f"--etcd-cafile={keys.authority}",
        f"--etcd-certfile={keys.client[0]}",
        f"--etcd-keyfile={keys.client[1]}",
        f"--tls-cert-file={keys.serving[0]}",
        f"--tls-private-key-file={keys.serving[1]}",
        f"--client-ca-file={keys.authority}",
        f"--kubelet-client-certificate={keys.client[0]}",
        f"--kubelet-client-key={keys.client[1]}",
        f"--kubelet-certificate-authority={keys.authority}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--service-account-key-file={keys.tokens}",
        f"--service-account-signing-key-file={keys.tokens}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-cluster-ip-range={node.services}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--profiling=false",
    ]


def kube_controller_manager(
    node: NodeSettings, programs: NodePrograms, keys: Credentials
) -> list[str]:
    return [
        programs.program("kube-controller-manager"),
        *_logged_in(keys, "kube-controller-manager"),
        f"--service-account-private-key-file={keys.tokens}",
        f"--root-ca-file={keys.authority}",
        "--use-service-account-credentials",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
    ]


def kube_scheduler(node: NodeSettings, programs: NodePrograms, keys: Credentials) -> list[str]:
    return [
        programs.program("kube-scheduler"),
        *_logged_in(keys, "kube-scheduler"),
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
    ]


def kubelet_command(node: NodeSettings, programs: NodePrograms, keys: Credentials) -> list[str]:
    return [
        programs.program("kubelet"),
        f"--config={node.configuration / 'kubelet.yaml'}",
        f"--kubeconfig={keys.kubeconfigs['kubelet']}",
        f"--root-dir={node.folder / 'kubelet'}",
        f"--hostname-override={node.name}",
        f"--node-ip={node.node}",
        "--v=1",
    ]


def _logged_in(keys: Credentials, component: str) -> list[str]:
    kubeconfig = keys.kubeconfigs[component]
    return [
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
    ]
