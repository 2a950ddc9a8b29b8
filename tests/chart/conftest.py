"""What the tests of the chart share."""

from __future__ import annotations

import pytest
from tests.chart.rendering import clients_or_skip
from tests.cluster.bed.clients import Clients


@pytest.fixture(scope="session")
def clients() -> Clients:
    """Helm, kubectl and kubeconform; skipped without."""
    return clients_or_skip()
