"""What the API server refuses for a while: said, tried again more and more slowly, and made good.

The refusal is a real one: an admission webhook that nobody answers for, as when its pod is away.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kubernetes import client
from tests.cluster.bed.apiserver import ApiServer
from tests.cluster.bed.kserve_standin import KServeStandin
from tests.cluster.bed.services import eventually, service_in_new_namespace
from tests.cluster.operator_bed import RolloutBed, StandInPrometheus, install, weight_served

from davy.rollout import conditions
from davy.rollout.replay import replay
from davy.rollout.status import ModelRolloutStatus

pytestmark = pytest.mark.cluster

NAME = "take-over"


@contextmanager
def config_maps_refused(server: ApiServer, namespace: str) -> Iterator[None]:
    """Have the API server refuse each write of a ConfigMap in a namespace."""
    hook = {
        "name": "nobody-answers.example.com",
        "clientConfig": {"url": "https://127.0.0.1:9/"},
        "rules": [
            {
                "apiGroups": [""],
                "apiVersions": ["v1"],
                "operations": ["CREATE", "UPDATE"],
                "resources": ["configmaps"],
            }
        ],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "failurePolicy": "Fail",
        "timeoutSeconds": 1,
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    with server.client() as api:
        registry, core = client.AdmissionregistrationV1Api(api), client.CoreV1Api(api)
        name = f"refuses-{namespace}"

        def refuses() -> bool:
            probe = {"metadata": {"generateName": "probe-"}}
            try:
                core.create_namespaced_config_map(namespace, probe, dry_run="All")
            except client.ApiException as error:
                return bool(error.status == 500)
            return False

        registry.create_validating_webhook_configuration(
            {"metadata": {"name": name}, "webhooks": [hook]}
        )
        try:
            eventually("the API server asks the webhook", refuses)
            yield
        finally:
            registry.delete_validating_webhook_configuration(name)
            eventually("the API server asks it no more", lambda: not refuses())


def has_weight(status: ModelRolloutStatus) -> bool:
    return status.weights is not None and status.weights.canary > 0


def test_it_is_tried_again_more_and_more_slowly_and_then_goes_on(
    apiserver: ApiServer, kserve: KServeStandin
) -> None:
    install(apiserver)
    with service_in_new_namespace(apiserver) as service, apiserver.client() as api:
        service.create("Standard")
        prometheus = StandInPrometheus(
            lambda: weight_served(kserve.observed.shares_in, service.namespace)
        )
        try:
            bed = RolloutBed(apiserver, service, prometheus, api)
            uid = bed.create()
            bed.drive(uid, until=has_weight)
            operator, objects = bed.operator()

            def reconciled() -> tuple[str, str]:
                found = bed.status().condition(conditions.RECONCILED)
                assert found is not None
                return found.status, found.reason

            def tick() -> float | None:
                return operator.tick(bed.namespace, NAME, uid)

            with config_maps_refused(apiserver, bed.namespace):
                before = len(bed.record().looks)
                waits: list[float | None] = []
                while reconciled()[0] == "True":
                    waits = [tick()]
                    time.sleep(0.1)
                written = len(objects.log)
                waits += [tick() for _ in range(3)]
                assert waits == [1.0, 2.0, 4.0, 8.0]
                assert reconciled() == ("False", conditions.REASON_TEMPORARY)
                assert bed.status().phase == "Progressing"
                assert len(objects.log) == written, "the same trouble is written once"
                # A look that could not be written was not decided: the router was asked nothing.
                assert len(bed.record().looks) == before

            end = time.monotonic() + 90
            while (pause := tick()) is not None:
                assert time.monotonic() < end, bed.status()
                time.sleep(min(pause, 0.5))
            assert bed.status().phase == "Promoted"
            assert reconciled()[0] == "True"
            record = bed.record()
            assert replay(record).difference is None
            assert [line.look for line in record.looks] == list(range(1, len(record.looks) + 1))
            assert kserve.observed.losses_in(bed.namespace) == []
        finally:
            prometheus.close()
