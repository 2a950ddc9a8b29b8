"""Who watches the pods: Prometheus reads their counters, the detector takes their events."""

from __future__ import annotations

import re

import pytest
from tests.cluster.bed.services import eventually
from tests.cluster.node.cluster import PATIENCE, Cluster, failed
from tests.cluster.node.installed import Davy

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]

REQUESTS = 200


def test_prometheus_counts_what_the_pods_have_answered(cluster: Cluster) -> None:
    with cluster.served() as served:
        served.create()
        before = _counted(cluster, served.namespace)
        assert failed(served.ask_many(REQUESTS)) == {}
        eventually(
            "every request is counted",
            lambda: _counted(cluster, served.namespace) >= before + REQUESTS,
            PATIENCE,
        )
        # None twice: pods are told by namespace and name.
        assert _counted(cluster, served.namespace) <= before + REQUESTS + 5
        (pod,) = [pod.metadata.name for pod in served.pods()]
        up = cluster.prometheus(f'up{{namespace="{served.namespace}"}}')
        assert [(item["metric"]["pod"], item["value"][1]) for item in up] == [(pod, "1")]


def test_the_detector_takes_the_payload_events_of_pods(cluster: Cluster, davy: Davy) -> None:
    with cluster.served() as served:
        served.create(DAVY_PREDICTOR_PAYLOAD_URL=davy.detector_url)
        before = _events(davy, served.stable.contract.version)
        assert failed(served.ask_many(REQUESTS)) == {}
        eventually(
            "requests and responses are taken",
            lambda: _events(davy, served.stable.contract.version) - before >= 2 * REQUESTS,
            PATIENCE,
        )


def _counted(cluster: Cluster, namespace: str) -> float:
    found = cluster.prometheus(f'sum(davy_requests_total{{namespace="{namespace}"}})')
    return float(found[0]["value"][1]) if found else 0.0


def _events(davy: Davy, version: str) -> float:
    (pod,) = davy.pods("detector")
    lines = davy.metrics("detector", pod).splitlines()
    counts = (
        float(line.rpartition(" ")[2])
        for line in lines
        if re.match(r"davy_detector_events_total\{", line) and f'version="{version}"' in line
    )
    return sum(counts)
