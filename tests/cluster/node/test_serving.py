"""A package is served by pods of a restricted namespace, through the gateway."""

from __future__ import annotations

import pytest
from tests.cluster.node.cluster import Cluster, by_version, failed

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]


def test_a_package_of_a_claim_is_served_by_a_restricted_pod(cluster: Cluster) -> None:
    with cluster.served() as served:
        served.create()
        answers = served.ask_many(20)
        assert failed(answers) == {}
        # Not the package that is in the image.
        assert by_version(answers) == {served.stable.contract.version: 20}
