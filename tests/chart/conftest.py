"""What the tests of the chart share."""

from __future__ import annotations

import os

import pytest
from tests.cluster.bed.clients import Clients, find_clients
from tests.cluster.bed.programs import SETTING, ProgramsMissingError


@pytest.fixture(scope="session")
def clients() -> Clients:
    """Helm, kubectl and kubeconform; skipped, with the command that builds them, without."""
    try:
        return find_clients()
    except ProgramsMissingError as error:
        if os.environ.get(SETTING) in {"build", "require"}:
            pytest.fail(str(error))
        pytest.skip(str(error))
