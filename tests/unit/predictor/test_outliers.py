"""What answers and metrics say of outliers, and that nothing of it costs an answer."""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from davy.core.clock import Clock, ManualClock, SystemClock
from davy.core.errors import IntegrityError
from davy.packaging.package import Package
from davy.predictor import outliers
from davy.predictor.admission import Limits, Speed
from davy.predictor.assembly import Assembly, assemble
from davy.predictor.batcher import Batcher
from davy.predictor.families import MetricFamilies
from davy.predictor.metrics import PredictorMetrics
from davy.predictor.model import load_model
from davy.predictor.outliers import LISTED, FlaggingModel, OutlierFlags, flagging
from davy.predictor.plane import DataPlane
from davy.predictor.settings import PredictorSettings
from davy.predictor.validation import InputPolicy
from davy.protocol.tensors import tensor
from davy.protocol.v2 import InferRequest, InferResponse

Ask = Callable[[np.ndarray], InferResponse]
# Every request is handed to the worker, and what waits for it is executed together.
THREADED = Limits(inline_seconds=-1.0, batch_wait_seconds=10.0)


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
    failing: Any = StandInDetector()
    flags = OutlierFlags(FlaggingModel(model, failing), metrics)
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


def _huge(document: dict[str, Any]) -> None:
    document["scorer"]["encoder"]["low"][0] = 2**70


@pytest.mark.parametrize("change", [_other_method, _other_feature, _cut, _huge])
def test_a_scorer_that_cannot_be_used_is_done_without(
    tiny: ModuleType,
    tmp_path: Path,
    scoring: Package,
    assembled: Callable[..., Assembly],
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
    assert flagging(load_model(package.path, public_key=None), "auto") is None
    answer = plane_of(assembled(package)).infer(request(np.array([5000.0])))
    assert answer.parameters == {}
    assert count(registry, "davy_outliers_total", package) is None


def test_a_package_that_lacks_the_file_it_names_is_served_without(
    tiny: ModuleType, tmp_path: Path
) -> None:
    package = tiny.write_scoring_package(tmp_path, file="lost.json")
    assert flagging(load_model(package.path, public_key=None), "auto") is None


@pytest.mark.parametrize("error", [IndexError("beyond"), OverflowError(), RuntimeError("any")])
def test_whatever_a_scorer_raises_the_model_is_served(
    scoring: Package, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(_content: bytes) -> Any:
        raise error

    monkeypatch.setattr(outliers, "read_detector", fail)
    assert flagging(load_model(scoring.path, public_key=None), "auto") is None


def test_a_scorer_that_was_changed_since_it_was_verified_is_not_served(
    tiny: ModuleType, tmp_path: Path
) -> None:
    package = tiny.write_scoring_package(tmp_path)
    model = load_model(package.path, public_key=None)
    file = package.path / "outlier.json"
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(IntegrityError):
        flagging(model, "auto")


class StandInScorer:
    """Calls amounts above 1,000 outliers, so many seconds for a row, and tells its threads."""

    def __init__(self, seconds: float = 0.0, sleep: Callable[[float], None] = time.sleep) -> None:
        self.seconds = seconds
        self.sleep = sleep
        self.threads: list[str] = []
        self.rows: list[int] = []

    def flags(self, rows: Any) -> Any:
        self.threads.append(threading.current_thread().name)
        self.rows.append(len(rows["amount"]))
        self.sleep(self.seconds * len(rows["amount"]))
        return rows["amount"] > 1000


def scored_plane(
    scoring: Package,
    registry: CollectorRegistry,
    scorer: Any,
    limits: Limits,
    clock: Clock | None = None,
) -> DataPlane:
    model = load_model(scoring.path, public_key=None)
    if clock is not None:
        # What it took on this machine is of another time.
        model = replace(model, speed=Speed())
        model.speed.observe(1, 0.0)
    metrics = PredictorMetrics(MetricFamilies(registry), model.contract, model.identity)
    flags = FlaggingModel(model, scorer)
    flags.try_out()
    batcher = Batcher(limits, clock or SystemClock())
    policy = InputPolicy(model.contract.inputs)
    return DataPlane(model, policy, metrics, batcher, OutlierFlags(flags, metrics))


def test_many_rows_are_scored_in_the_worker_and_their_time_is_in_the_estimate(
    scoring: Package, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only scoring takes time, whatever the machine.
    clock = ManualClock(datetime(2017, 1, 1, tzinfo=UTC))
    monkeypatch.setattr(outliers, "time", SimpleNamespace(perf_counter=clock.monotonic))
    scorer = StandInScorer(seconds=2e-5, sleep=clock.sleep)
    # As many rows of the model alone would be executed in the loop.
    plane = scored_plane(scoring, registry, scorer, Limits(inline_seconds=0.1), clock)
    assert plane.model.speed.seconds(10_000) < 0.1
    scorer.threads.clear()
    amounts = np.full(10_000, 50.0)
    amounts[7] = 5000.0
    answer = asyncio.run(plane.answer(request(amounts)))
    assert answer.parameters == {"outliers": 1, "outlier_rows": "7"}
    assert [name.startswith("davy-model") for name in scorer.threads] == [True]
    assert plane.outliers is not None
    assert plane.outliers.model.speed.seconds(10_000) == pytest.approx(0.2)
    # A few rows are executed and scored where they are, as before.
    asyncio.run(plane.answer(request(amounts[:8])))
    assert scorer.threads[1:] == [threading.main_thread().name]


def test_requests_that_are_executed_together_are_told_of_their_own_rows(
    scoring: Package, registry: CollectorRegistry
) -> None:
    scorer = StandInScorer(seconds=0.01)
    plane = scored_plane(scoring, registry, scorer, THREADED)
    scorer.rows.clear()
    amounts = ([50.0], [50.0, 5000.0], [50.0], [5000.0, 50.0, 5000.0])

    async def ask() -> list[InferResponse]:
        return await asyncio.gather(*(plane.answer(request(np.array(a))) for a in amounts))

    answers = asyncio.run(ask())
    assert [dict(answer.parameters) for answer in answers] == [
        {"outliers": 0},
        {"outliers": 1, "outlier_rows": "1"},
        {"outliers": 0},
        {"outliers": 2, "outlier_rows": "0,2"},
    ]
    assert [len(answer.outputs) for answer in answers] == [1] * 4
    assert scorer.rows == [1, 6]
    assert count(registry, "davy_outliers_total", scoring) == 3


def test_a_scorer_is_read_beside_the_event_loop_when_a_package_is_loaded_again(
    scoring: Package, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []
    read = outliers.read_detector

    def spy(content: bytes) -> Any:
        threads.append(threading.current_thread())
        return read(content)

    async def go() -> None:
        settings = PredictorSettings(model_dir=scoring.path)
        assembly = assemble(settings, registry=registry, clock=SystemClock())
        monkeypatch.setattr(outliers, "read_detector", spy)
        served = await assembly.repository.load("tiny")
        answer = await served.plane.answer(request(np.array([5000.0])))
        assert answer.parameters == {"outliers": 1, "outlier_rows": "0"}
        await assembly.close()

    asyncio.run(go())
    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()
