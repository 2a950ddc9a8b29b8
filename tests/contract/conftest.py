"""Makes ``tests/fixtures`` importable by the tests of this folder."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FIXTURES = Path(__file__).parents[1] / "fixtures"


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FIXTURES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


_tiny = _load("tiny_package")
_server = _load("predictor_server")
_load_client = _load("load_client")


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    return _tiny


@pytest.fixture(scope="session")
def predictor() -> ModuleType:
    return _server


@pytest.fixture(scope="session")
def load_client() -> ModuleType:
    return _load_client
