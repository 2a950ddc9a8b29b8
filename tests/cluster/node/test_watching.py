"""Who watches the pods: Prometheus reads their counters, the detector takes their events."""

from __future__ import annotations

import pytest
from tests.cluster.bed.services import eventually
from tests.cluster.node.cluster import PATIENCE, Cluster, failed
from tests.cluster.node.installed import Davy
from tests.fixtures.tiny_package import write_watched_package

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
    # One that says what is usual: another is not watched.
    package = write_watched_package(cluster.folder, weight=0.04)
    with cluster.served(package) as served:
        served.create(DAVY_PREDICTOR_PAYLOAD_URL=davy.detector_url)
        version = package.contract.version
        before = _told(davy, "davy_detector_events_total", version)
        assert failed(served.ask_many(REQUESTS)) == {}

        def events() -> float:
            return _told(davy, "davy_detector_events_total", version) - before

        eventually(
            "every request and response is taken", lambda: events() >= 2 * REQUESTS, PATIENCE
        )
        # They fill two windows of this package, which are judged by the one feature that it knows.
        eventually(
            "windows are judged",
            lambda: _told(davy, "davy_detector_windows_total", version, 'status="ok"') >= 1,
            PATIENCE,
        )


def _counted(cluster: Cluster, namespace: str) -> float:
    found = cluster.prometheus(f'sum(davy_requests_total{{namespace="{namespace}"}})')
    return float(found[0]["value"][1]) if found else 0.0


def _told(davy: Davy, metric: str, version: str, label: str = "") -> float:
    """Return what the detector says of a version."""
    (pod,) = davy.pods("detector")
    return sum(
        float(line.rpartition(" ")[2])
        for line in davy.metrics("detector", pod).splitlines()
        if line.startswith(f"{metric}{{") and f'version="{version}"' in line and label in line
    )
