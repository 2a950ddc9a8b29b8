"""Whole rollouts by the operator in its pods, 100 requests a second through the gateway.

Real: the operator with its rights, Prometheus, the gateway, the pods, their counters. Stood in for:
KServe's controller.
"""

from __future__ import annotations

import time

import pytest
from kubernetes import client
from tests.cluster.bed.services import eventually
from tests.cluster.node.cluster import PATIENCE, Cluster, Served, by_version, failed
from tests.cluster.node.installed import Davy

from davy.rollout.replay import replay

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]


def assert_whole(served: Served) -> None:
    """The record says every look once, and replays to the same decisions."""
    record = served.record()
    assert [line.look for line in record.looks] == list(range(1, len(record.looks) + 1))
    assert replay(record).difference is None


def test_a_sound_one_is_promoted_and_no_request_fails(cluster: Cluster, davy: Davy) -> None:
    with cluster.served() as served:
        served.create()
        candidate = cluster.package(0.0301)
        load = served.load()
        load.start()
        served.rollout(candidate)
        assert served.ended() == "Promoted"
        time.sleep(3)
        answers = load.stop()
        assert failed(answers) == {}
        assert by_version(answers)[candidate.contract.version] > 500
        assert by_version(served.ask_many(50)) == {candidate.contract.version: 50}
        predictor = served.read()["spec"]["predictor"]
        assert predictor["annotations"]["davylamp.dev/version"] == candidate.contract.version
        assert_whole(served)


def test_one_whose_answers_break_the_contract_is_rolled_back_and_no_request_fails(
    cluster: Cluster,
) -> None:
    with cluster.served() as served:
        served.create()
        candidate = cluster.package(0.5)
        load = served.load()
        load.start()
        served.rollout(candidate)
        assert served.ended() == "RolledBack"
        time.sleep(3)
        answers = load.stop()
        assert failed(answers) == {}
        assert by_version(answers)[candidate.contract.version] > 0
        stable = served.stable.contract.version
        assert by_version(served.ask_many(50)) == {stable: 50}
        assert "canary" not in served.read()["spec"]
        assert_whole(served)


def test_an_operator_that_is_killed_is_taken_over_from(cluster: Cluster, davy: Davy) -> None:
    with cluster.served() as served:
        served.create()
        candidate = cluster.package(0.0301)
        load = served.load()
        load.start()
        served.rollout(candidate, steps=[{"weight": 10, "minDuration": "15s"}, {"weight": 50}])
        eventually("the canary has weight", lambda: served.weight() == 10, PATIENCE)
        looks = served.status().looks
        leader = davy.leader()
        assert leader is not None
        davy.kill(leader)
        assert served.ended() == "Promoted"
        time.sleep(3)
        answers = load.stop()
        assert failed(answers) == {}
        assert served.status().looks > looks
        assert_whole(served)


def test_a_pod_that_is_evicted_in_a_canary_costs_no_request(cluster: Cluster, davy: Davy) -> None:
    with cluster.served() as served:
        # KServe takes the pod of the canary from these: two are left.
        served.create(replicas=3)
        candidate = cluster.package(0.0301)
        load = served.load()
        load.start()
        served.rollout(candidate, steps=[{"weight": 10, "minDuration": "20s"}, {"weight": 50}])
        eventually("the canary has weight", lambda: served.weight() == 10, PATIENCE)
        stable = served.stable.contract.version

        def left() -> list[str]:
            return [
                pod.metadata.name
                for pod in served.pods()
                if pod.metadata.annotations["davylamp.dev/version"] == stable
                and pod.metadata.deletion_timestamp is None
            ]

        eventually("the canary has its pod", lambda: len(left()) == 2, PATIENCE)
        victim = left()[0]
        client.CoreV1Api(cluster.api).create_namespaced_pod_eviction(
            victim, served.namespace, {"metadata": {"name": victim}}
        )
        eventually("another pod is in its place", lambda: len(left()) == 2, PATIENCE)
        assert victim not in left()
        assert served.status().phase == "Progressing"
        assert served.ended() == "Promoted"
        time.sleep(3)
        assert failed(load.stop()) == {}
        assert_whole(served)
