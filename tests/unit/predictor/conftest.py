"""The tiny model package, made once a run, and a handler over it."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from davy.core.clock import SystemClock
from davy.packaging.package import Package
from davy.predictor.admission import Limits
from davy.predictor.batcher import Batcher
from davy.predictor.catalogue import Catalogue, Models, Served
from davy.predictor.explain import Explainer, ExplainLimits
from davy.predictor.families import MetricFamilies
from davy.predictor.handler import Handler
from davy.predictor.metrics import PredictorMetrics
from davy.predictor.model import Model, load_model
from davy.predictor.payload import NoSink, Sink
from davy.predictor.plane import DataPlane
from davy.predictor.validation import InputPolicy


def _load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


_tiny = _load("tiny_package", Path(__file__).parents[2] / "fixtures" / "tiny_package.py")


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    return _tiny


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return _tiny.write_tiny_package(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def model(package: Package) -> Model:
    return load_model(package.path, public_key=None)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def make_handler(
    package: Package, model: Model, registry: CollectorRegistry
) -> Callable[..., Handler]:
    def make(sink: Sink | None = None, **options: Any) -> Handler:
        contract = model.contract
        metrics = PredictorMetrics(MetricFamilies(registry), contract, model.identity)
        options = {"clock": SystemClock(), "max_body_bytes": 100_000, **options}
        batcher = Batcher(Limits(), options["clock"])
        plane = DataPlane(model, InputPolicy(contract.inputs), metrics, batcher)
        served = Served(plane, sink or NoSink(), package.path)
        explainer = Explainer(ExplainLimits(seconds=1.0, rows=4, samples=400), options["clock"])
        return Handler(Models(Catalogue((served,))), explainer, **options)

    return make
