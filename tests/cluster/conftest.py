"""What the tests against a real API server share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from tests.cluster.bed.programs import SETTING, ProgramsMissingError, find_programs


@pytest.fixture(scope="session")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:  # noqa: F821
    """A kube-apiserver of this worker's own, with nothing but its built-in resources."""
    try:
        programs = find_programs()
    except ProgramsMissingError as error:
        if os.environ.get(SETTING) in {"build", "require"}:
            pytest.fail(str(error))
        pytest.skip(str(error))
    from tests.cluster.bed.apiserver import running_apiserver

    with running_apiserver(programs, tmp_path_factory.mktemp("apiserver")) as server:
        yield server


@pytest.fixture(scope="session")
def kserve(apiserver: ApiServer) -> Iterator[KServeStandin]:  # noqa: F821
    """KServe's and the Gateway API's resources, and stand-ins for what acts on them."""
    from tests.cluster.bed.crds import http_route_crd, inference_service_crd
    from tests.cluster.bed.kserve_standin import running_kserve_standin
    from tests.cluster.bed.webhooks import kserve_webhooks

    apiserver.install_crd(http_route_crd())
    apiserver.install_crd(inference_service_crd())
    with kserve_webhooks(apiserver), running_kserve_standin(apiserver) as standin:
        yield standin
