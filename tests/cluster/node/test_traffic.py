"""Weights as the gateway serves them, and what a change over costs that is made in the wrong order.

The second is what the rollouts' "no request failed" is worth: the same client does see a loss where
there is one.
"""

from __future__ import annotations

import time

import pytest
from tests.cluster.bed.services import eventually
from tests.cluster.node.cluster import PATIENCE, Cluster, by_version, failed

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]


def test_a_canary_gets_its_weight_once_it_is_ready_and_not_before(cluster: Cluster) -> None:
    with cluster.served() as served:
        served.create()
        other = cluster.package(0.0301)
        stable, canary = served.stable.contract.version, other.contract.version
        load = served.load(50)
        load.start()
        served.edit({"canary": [served.canary(other, 20)]})

        def asked() -> int:
            return by_version(load.client.answers)[canary]

        eventually("the canary answers", asked, PATIENCE)
        answers = load.stop()
        assert failed(answers) == {}
        assert by_version(answers)[stable] > 0
        for percent in (20, 50):
            served.edit({"canary": [served.canary(other, percent)]})
            time.sleep(4)
            answers = served.ask_many(2000)
            assert failed(answers) == {}
            # A round robin by weight: what is left over is a turn that was not whole.
            assert abs(by_version(answers)[canary] - 20 * percent) <= 20, by_version(answers)


def test_a_canary_that_is_taken_out_with_its_weight_loses_requests(cluster: Cluster) -> None:
    with cluster.served() as served:
        served.create()
        other = cluster.package(0.0301)
        served.edit({"canary": [served.canary(other, 50)]})
        eventually(
            "the canary answers",
            lambda: by_version(served.ask_many(10))[other.contract.version],
            PATIENCE,
        )
        load = served.load()
        load.start()
        # The gateway takes changes at most every 2 s: a first one after a pause at once.
        time.sleep(6)
        served.edit({"canary": None})
        time.sleep(8)
        lost = failed(load.stop())
        assert set(lost) <= {0, 500, 502, 503}
        assert lost
