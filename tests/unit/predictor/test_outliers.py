"""What answers and metrics say of outliers, and that nothing of it costs an answer."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from davy.core.clock import SystemClock
from davy.packaging.package import Package
from davy.predictor import outliers
from davy.predictor.assembly import Assembly, assemble
from davy.predictor.families import MetricFamilies
from davy.predictor.metrics import PredictorMetrics
from davy.predictor.model import load_model
from davy.predictor.outliers import LISTED, OutlierFlags, outlier_flags
from davy.predictor.plane import DataPlane
from davy.predictor.settings import PredictorSettings
from davy.predictor.validation import InputPolicy
from davy.protocol.tensors import tensor
from davy.protocol.v2 import InferRequest, InferResponse

Ask = Callable[[np.ndarray], InferResponse]


@pytest.fixture(scope="session")
def scoring(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Package:
    package: Package = tiny.write_scoring_package(tmp_path_factory.mktemp("scoring"))
    return package


@pytest.fixture
def assembled(scoring: Package, registry: CollectorRegistry) -> Callable[..., Assembly]:
    def make(package: Package = scoring, **settings: Any) -> Assembly:
        async def start() -> Assembly:
            return assemble(
                PredictorSettings(model_dir=package.path, **settings),
                registry=registry,
                clock=SystemClock(),
            )

        return asyncio.run(start())

    return make


def request(amounts: np.ndarray) -> InferRequest:
    rows = len(amounts)
    columns = {
        "kind": np.zeros(rows, np.int64),
        "amount": amounts.astype(np.float32),
        "visits": np.full(rows, 5, np.float32),
        "channel": np.ones(rows, np.int64),
    }
    return InferRequest(tuple(tensor(name, values) for name, values in columns.items()))


def plane_of(assembly: Assembly) -> DataPlane:
    return assembly.repository.models.find("tiny").plane


def count(registry: CollectorRegistry, name: str, package: Package) -> float | None:
    labels = {"model": "tiny", "version": package.contract.version}
    return registry.get_sample_value(name, labels)


def test_an_answer_names_the_rows_that_are_outliers(
    assembled: Callable[..., Assembly], scoring: Package, registry: CollectorRegistry
) -> None:
    plane = plane_of(assembled())
    assert count(registry, "davy_outliers_total", scoring) == 0
    answer = asyncio.run(plane.answer(request(np.array([50, 5000, 60, np.inf]))))
    assert answer.parameters == {"outliers": 2, "outlier_rows": "1,3"}
    assert plane.infer(request(np.array([50.0]))).parameters == {"outliers": 0}
    assert count(registry, "davy_outliers_total", scoring) == 2
    assert count(registry, "davy_outlier_failures_total", scoring) == 0


def test_the_list_of_rows_is_bounded_and_the_count_is_not(
    assembled: Callable[..., Assembly], scoring: Package, registry: CollectorRegistry
) -> None:
    amounts = np.full(100, 5000.0)
    amounts[0] = 50.0
    answer = plane_of(assembled()).infer(request(amounts))
    assert answer.parameters["outliers"] == 99
    listed = answer.parameters["outlier_rows"].split(",")
    assert listed == [str(row) for row in range(1, LISTED + 1)]
    assert count(registry, "davy_outliers_total", scoring) == 99


@pytest.mark.parametrize(
    ("mode", "cheap", "scored"),
    [
        ("auto", True, True),
        ("auto", False, False),
        ("always", False, True),
        ("always", True, True),
        ("off", True, False),
        ("off", False, False),
    ],
)
def test_the_package_decides_unless_the_setting_does(
    tiny: ModuleType,
    tmp_path: Path,
    assembled: Callable[..., Assembly],
    registry: CollectorRegistry,
    mode: str,
    cheap: bool,
    scored: bool,
) -> None:
    package = tiny.write_scoring_package(tmp_path, in_request=cheap)
    answer = plane_of(assembled(package, outliers=mode)).infer(request(np.array([5000.0])))
    assert ("outliers" in answer.parameters) is scored
    # What is not looked for is not 0.
    assert count(registry, "davy_outliers_total", package) == (1 if scored else None)


def test_a_package_without_a_scorer_says_nothing_of_outliers(
    package: Package, assembled: Callable[..., Assembly], registry: CollectorRegistry
) -> None:
    plane = plane_of(assembled(package, outliers="always"))
    assert plane.infer(request(np.array([5000.0]))).parameters == {}
    assert count(registry, "davy_outliers_total", package) is None


def test_a_request_that_breaks_the_contract_is_not_scored(
    assembled: Callable[..., Assembly], scoring: Package, registry: CollectorRegistry
) -> None:
    plane = plane_of(assembled())
    with pytest.raises(Exception, match="missing"):
        plane.infer(request(np.array([np.nan, 5000.0])))
    assert count(registry, "davy_outliers_total", scoring) == 0


class StandInDetector:
    """Fails at every row."""

    def flags(self, rows: Any) -> Any:
        raise MemoryError("no room")


def test_a_failing_scorer_costs_no_answer_and_is_logged_once(
    scoring: Package, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[dict[str, Any]] = []

    class StandInLog:
        def error(self, _event: str, **fields: Any) -> None:
            logged.append(fields)

    monkeypatch.setattr(outliers, "get_logger", lambda _name: StandInLog())
    model = load_model(scoring.path, public_key=None)
    metrics = PredictorMetrics(MetricFamilies(registry), model.contract, model.identity)
    flags = OutlierFlags(StandInDetector(), model.contract, metrics)  # type: ignore[arg-type]
    plane = DataPlane(model, InputPolicy(model.contract.inputs), metrics, outliers=flags)
    for _ in range(3):
        answer = plane.infer(request(np.array([50.0])))
        assert answer.parameters == {}
        assert len(answer.outputs) == 1
    assert count(registry, "davy_outlier_failures_total", scoring) == 3
    assert count(registry, "davy_outliers_total", scoring) == 0
    (fields,) = logged
    assert (fields["model"], fields["version"]) == ("tiny", scoring.contract.version)
    assert isinstance(fields["exc_info"], MemoryError)


def _other_method(document: dict[str, Any]) -> None:
    document["scorer"]["method"] = "of a newer Davy"


def _other_feature(document: dict[str, Any]) -> None:
    document["scorer"]["encoder"]["numbers"][0] = "of another model"


def _cut(document: dict[str, Any]) -> None:
    document["scorer"]["centre"].pop()


@pytest.mark.parametrize("change", [_other_method, _other_feature, _cut])
def test_a_scorer_that_cannot_be_used_is_done_without(
    tiny: ModuleType,
    tmp_path: Path,
    scoring: Package,
    registry: CollectorRegistry,
    change: Callable[[dict[str, Any]], None],
) -> None:
    document = json.loads(scoring.content("outlier.json"))
    change(document)
    file = tmp_path / "outlier.json"
    file.write_text(json.dumps(document))
    described = scoring.contract.outliers
    assert described is not None
    package = tiny.write_tiny_package(
        tmp_path, files={"outlier.json": file}, outliers=described.model_dump()
    )
    metrics = PredictorMetrics(MetricFamilies(registry), package.contract, "0")
    assert outlier_flags(package, metrics, "auto") is None
    assert count(registry, "davy_outliers_total", package) is None


def test_a_package_that_lacks_the_file_it_names_is_served_without(
    tiny: ModuleType, tmp_path: Path, registry: CollectorRegistry
) -> None:
    package = tiny.write_scoring_package(tmp_path, file="lost.json")
    metrics = PredictorMetrics(MetricFamilies(registry), package.contract, "0")
    assert outlier_flags(package, metrics, "auto") is None
