"""The tiny model package, made once a run, and a handler over it."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from tests.fixtures import tiny_package as _tiny

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
from davy.predictor.segments import NO_SEGMENTS, SegmentReader, Segments
from davy.predictor.validation import InputPolicy


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
    def make(sink: Sink | None = None, segments: Segments = NO_SEGMENTS, **options: Any) -> Handler:
        contract = model.contract
        metrics = PredictorMetrics(MetricFamilies(registry, segments), contract, model.identity)
        options = {"clock": SystemClock(), "max_body_bytes": 100_000, **options}
        batcher = Batcher(Limits(), options["clock"])
        reader = SegmentReader(segments, contract)
        plane = DataPlane(model, InputPolicy(contract.inputs), metrics, batcher, segments=reader)
        served = Served(plane, sink or NoSink(), package.path)
        explainer = Explainer(ExplainLimits(seconds=1.0, rows=4, samples=400), options["clock"])
        return Handler(Models(Catalogue((served,))), explainer, **options)

    return make
