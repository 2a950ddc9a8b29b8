"""The modules of ``tests/fixtures`` that the tests of this folder use, as fixtures."""

from types import ModuleType

import pytest
from tests.fixtures import load_client as _load_client
from tests.fixtures import predictor_server as _server
from tests.fixtures import tiny_package as _tiny


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    return _tiny


@pytest.fixture(scope="session")
def predictor() -> ModuleType:
    return _server


@pytest.fixture(scope="session")
def load_client() -> ModuleType:
    return _load_client
