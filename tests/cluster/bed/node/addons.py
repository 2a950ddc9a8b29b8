"""What a cluster has besides its node: names of Services, a gateway, Prometheus.

Belongs here: starting each, and waiting until it does its work. Not here: KServe's stand-in.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import httpx
import yaml
from kubernetes import client
from tests.cluster.bed.node.apply import apply, manifest
from tests.cluster.bed.node.archive import write_archive
from tests.cluster.bed.node.node import Node, wait_until, write_once
from tests.cluster.bed.node.runtime import import_image

MANIFESTS = Path(__file__).parent / "manifests"
ROOT = Path(__file__).parents[4]
COREDNS_IMAGE = "davy.local/coredns:1"
GATEWAY = ("kserve", "kserve-ingress-gateway")
SCRAPE_SECONDS = 1
METRICS = "127.0.0.1:8082"


def start_addons(node: Node) -> None:
    """Start all of them; the node's `times` go on."""
    began = time.monotonic() - (node.times[-1][1] if node.times else 0.0)
    for step, start in (
        ("CoreDNS", start_coredns),
        ("Gateway API, Traefik", start_gateway),
        ("Prometheus", start_prometheus),
    ):
        start(node)
        node.times.append((step, time.monotonic() - began))


def start_coredns(node: Node) -> None:
    archive = node.settings.run / "coredns.tar"
    if not archive.exists():
        # As root, for port 53.
        files = {"/coredns": node.programs.coredns}
        write_archive(archive, COREDNS_IMAGE, files, ["/coredns"], user="0")
    import_image(node.settings, archive)
    values = {"image": COREDNS_IMAGE, "dns": str(node.settings.dns)}
    with node.server.client() as api:
        for document in manifest(MANIFESTS / "coredns.yaml", **values):
            apply(api, document)
        deployments = client.AppsV1Api(api)

        def available() -> bool:
            found = deployments.read_namespaced_deployment("coredns", "kube-system")
            return bool(found.status.available_replicas)

        wait_until("CoreDNS is available", available, 90)


def start_gateway(node: Node) -> None:
    """The Gateway API's resources, and Traefik on port 80 of the node."""
    with node.server.client() as api:
        for path in sorted(node.programs.gateway_api.glob("*.yaml")):
            for document in manifest(path):
                apply(api, document)
        crds = client.ApiextensionsV1Api(api)

        def established() -> bool:
            names = ("gatewayclasses", "gateways", "httproutes")
            found = [
                crds.read_custom_resource_definition(f"{name}.gateway.networking.k8s.io")
                for name in names
            ]
            return all(
                any(
                    item.type == "Established" and item.status == "True"
                    for item in (crd.status and crd.status.conditions) or ()
                )
                for crd in found
            )

        wait_until("the Gateway API is served", established, 60)
        for document in manifest(MANIFESTS / "gateway.yaml"):
            apply(api, document)
        node.start(
            "traefik",
            str(node.programs.traefik),
            "--entrypoints.web.address=:80",
            f"--entrypoints.metrics.address={METRICS}",
            "--ping=true",
            "--ping.entrypoint=metrics",
            "--metrics.prometheus=true",
            "--metrics.prometheus.entrypoint=metrics",
            "--providers.kubernetesgateway=true",
            f"--providers.kubernetesgateway.statusaddress.ip={node.settings.node}",
            "--log.level=INFO",
            "--global.checknewversion=false",
            "--global.sendanonymoususage=false",
            environ={"KUBECONFIG": str(node.server.kubeconfig)},
        )
        objects = client.CustomObjectsApi(api)

        def programmed() -> bool:
            namespace, name = GATEWAY
            found = objects.get_namespaced_custom_object(
                "gateway.networking.k8s.io", "v1", namespace, "gateways", name
            )
            conditions = (found.get("status") or {}).get("conditions") or ()
            return any(
                item["type"] == "Programmed" and item["status"] == "True" for item in conditions
            )

        wait_until(
            "the gateway is programmed",
            programmed,
            60,
            lambda: node.processes.log_end("traefik"),
        )


def start_prometheus(node: Node) -> None:
    """Prometheus on the node, with targets from a file: Debian's knows no Kubernetes."""
    run = node.settings.run
    targets, configuration = run / "targets.json", run / "conf/prometheus.yaml"
    document = {
        "global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "evaluation_interval": "5s"},
        "scrape_configs": [
            {"job_name": "traefik", "static_configs": [{"targets": [METRICS]}]},
            {
                "job_name": "pods",
                "file_sd_configs": [{"files": [str(targets)], "refresh_interval": "1s"}],
            },
        ],
    }
    write_once(configuration, yaml.safe_dump(document))
    node.processes.start(
        "pod-targets",
        [sys.executable, "-m", "tests.cluster.bed.node.pod_targets", str(targets)],
        environ={"KUBECONFIG": str(node.server.kubeconfig)},
        cwd=ROOT,
    )
    node.start(
        "prometheus",
        "prometheus",
        f"--config.file={configuration}",
        f"--storage.tsdb.path={run / 'prometheus'}",
        f"--web.listen-address={node.settings.node}:9090",
        "--storage.tsdb.retention.time=6h",
        "--log.level=warn",
    )

    def ready() -> bool:
        try:
            answer = httpx.get(f"{node.settings.prometheus_url}/-/ready", trust_env=False)
        except httpx.HTTPError:
            return False
        return answer.is_success

    wait_until("Prometheus is ready", ready, 60, lambda: node.processes.log_end("prometheus"))
