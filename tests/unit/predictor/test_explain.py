"""Explanations over the handler: what is answered, within which limits."""

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from structlog.testing import capture_logs

from davy.core.clock import ManualClock, SystemClock
from davy.core.errors import DeadlineError, InvalidInputError, NotFoundError, OverloadedError
from davy.packaging.contract import TensorSpec, score_output
from davy.packaging.package import Package, write_package
from davy.predictor.background import MOST_ROWS, background
from davy.predictor.catalogue import Catalogue, Models, Served
from davy.predictor.explain import MOST_WAITING, Explainer, ExplainLimits, _output
from davy.predictor.families import MetricFamilies
from davy.predictor.handler import Handler
from davy.predictor.metrics import PredictorMetrics
from davy.predictor.model import Model, load_model
from davy.predictor.payload import NoSink
from davy.predictor.plane import DataPlane
from davy.predictor.validation import InputPolicy
from davy.protocol.tensors import tensor
from davy.protocol.v2 import (
    InferRequest,
    InferResponse,
    RequestedOutput,
    decode_response,
    encode_request,
)

EXPLAIN = "/v2/models/tiny/explain"
FEATURES = ["kind", "amount", "visits", "channel"]


def rows(count: int = 2, **changes: Any) -> dict[str, np.ndarray]:
    columns: dict[str, np.ndarray] = {
        "kind": np.arange(count) % 6,
        "amount": np.linspace(10, 90, count, dtype=np.float32),
        "visits": np.full(count, 3, np.float32),
        "channel": np.full(count, 2),
    }
    return columns | {name: np.array(value) for name, value in changes.items()}


def request(columns: dict[str, np.ndarray], **fields: Any) -> InferRequest:
    return InferRequest(tuple(tensor(name, data) for name, data in columns.items()), **fields)


def post(handler: Handler, asked: InferRequest, **headers: str) -> httpx.Response:
    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(handler)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://predictor") as client:
            return await client.post(EXPLAIN, content=encode_request(asked).body, headers=headers)

    return asyncio.run(go())


def found(answer: httpx.Response) -> tuple[dict[str, np.ndarray], InferResponse]:
    assert answer.status_code == 200, answer.text
    response = decode_response(answer.content)
    return {item.name: item.data for item in response.outputs}, response


@pytest.fixture
def plane(model: Model, registry: CollectorRegistry) -> DataPlane:
    contract = model.contract
    metrics = PredictorMetrics(MetricFamilies(registry), contract, model.identity)
    return DataPlane(model, InputPolicy(contract.inputs), metrics)


def test_attributions_add_up_to_the_models_score(
    make_handler: Callable[..., Handler], tiny: ModuleType, package: Package
) -> None:
    answer = post(make_handler(), request(rows(3), id="why-1"))
    values, response = found(answer)
    assert list(values) == [*(f"attribution:{name}" for name in FEATURES), "base_value"]
    total = values["base_value"] + sum(values[f"attribution:{name}"] for name in FEATURES)
    np.testing.assert_allclose(total, tiny.expected_scores(rows(3)), atol=1e-6)
    for ignored in ("visits", "channel"):
        assert not values[f"attribution:{ignored}"].any()
    assert values["attribution:amount"][2] > 0 > values["attribution:amount"][0]
    assert (response.id, response.model_version) == ("why-1", package.contract.version)
    assert response.parameters["method"] == "shapley_permutation_sampling"
    assert response.parameters["samples"] == 400
    assert 0 < response.parameters["standard_error"] < 0.02


def test_an_explanation_is_neither_counted_nor_told_as_an_inference(
    make_handler: Callable[..., Handler], registry: CollectorRegistry
) -> None:
    class RefusingSink:
        def wants(self, request_id: str) -> bool:
            raise AssertionError(request_id)

        def put(self, exchange: Any) -> None:
            raise AssertionError(exchange)

    handler = make_handler(RefusingSink())
    before = generate_latest(registry)
    found(post(handler, request(rows())))
    assert generate_latest(registry) == before


def test_seed_and_samples_are_the_clients_to_choose(make_handler: Callable[..., Handler]) -> None:
    handler = make_handler()

    def amounts(**parameters: int) -> list[float]:
        values, response = found(post(handler, request(rows(), parameters=parameters)))
        assert response.parameters["samples"] == 10
        return values["attribution:amount"].tolist()

    assert amounts(samples=10, seed=7) == amounts(samples=10, seed=7)
    assert amounts(samples=10, seed=7) != amounts(samples=10, seed=8)


def test_only_the_outputs_asked_for_in_the_form_asked_for(
    make_handler: Callable[..., Handler],
) -> None:
    outputs = (RequestedOutput("attribution:kind", True), RequestedOutput("base_value"))
    answer = post(make_handler(), request(rows(), outputs=outputs))
    length = int(answer.headers["inference-header-content-length"])
    response = decode_response(answer.content, length)
    assert [item.name for item in response.outputs] == ["attribution:kind", "base_value"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (request(rows(5)), "5 rows, but at most 4"),
        (request(rows(amount=np.array([np.nan, 1], np.float32))), "input 'amount' row 0"),
        (request(rows(), parameters={"samples": 3}), "'samples': must be an integer from 4 to 400"),
        (request(rows(), parameters={"samples": True}), "'samples'"),
        (request(rows(), parameters={"seed": -1}), "'seed'"),
        (request(rows(), parameters={"seed": "x"}), "'seed'"),
        (request(rows(), outputs=(RequestedOutput("score"),)), "no such output"),
    ],
)
def test_what_cannot_be_explained_is_refused(
    make_handler: Callable[..., Handler], asked: InferRequest, message: str
) -> None:
    answer = post(make_handler(), asked)
    assert answer.status_code == 400
    assert message in answer.json()["error"]


def test_more_samples_while_there_is_time(make_handler: Callable[..., Handler]) -> None:
    handler = make_handler()
    # Its first explanation reads the reference, which takes time of its own.
    found(post(handler, request(rows())))
    _, response = found(post(handler, request(rows(4)), **{"davy-timeout-ms": "2000"}))
    assert response.parameters["samples"] == 400
    late = post(handler, request(rows(4)), **{"davy-timeout-ms": "0"})
    assert late.status_code == 504


def test_it_stops_before_the_deadline(plane: DataPlane) -> None:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))

    class SlowModel:
        """A stand-in whose every call takes 0.1 s of the clock."""

        package = plane.model.package
        contract = plane.model.contract
        identity = plane.model.identity

        def run(self, feed: Any, outputs: tuple[str, ...]) -> Any:
            clock.sleep(0.1)
            return plane.model.run(feed, outputs)

    slow: Any = SlowModel()
    explainer = Explainer(ExplainLimits(seconds=2.0, rows=4, samples=100_000), clock)
    explained = DataPlane(slow, plane.policy, plane.metrics)
    begun = clock.monotonic()
    response = asyncio.run(explainer.explain(explained, request(rows(4)), None))
    assert 1.0 < clock.monotonic() - begun <= 1.8
    assert 4 <= response.parameters["samples"] < 100_000
    with pytest.raises(DeadlineError, match="explain"):
        asyncio.run(explainer.explain(explained, request(rows()), clock.monotonic() - 1))
    explainer.close()


@pytest.mark.parametrize("warm", [False, True])
def test_what_was_warmed_is_not_read_with_the_first_request(
    plane: DataPlane, monkeypatch: pytest.MonkeyPatch, warm: bool
) -> None:
    clock = ManualClock(datetime(2017, 1, 1, tzinfo=UTC))
    reads = []

    def slow_stand_in(package: Package) -> dict[str, np.ndarray]:
        reads.append(package.identity)
        clock.sleep(2.0)
        return background(package)

    monkeypatch.setattr("davy.predictor.explain.background", slow_stand_in)
    explainer = Explainer(ExplainLimits(seconds=1.0, rows=4, samples=8), clock)
    if warm:
        explainer.warm(plane.model)
        explainer.warm(plane.model)
        explainer._worker.submit(lambda: None).result()

    async def go() -> None:
        deadline = clock.monotonic() + 0.5
        if warm:
            await explainer.explain(plane, request(rows(1)), deadline)
        else:
            with pytest.raises(DeadlineError):
                await explainer.explain(plane, request(rows(1)), deadline)
        # Read already, for whoever comes next.
        await explainer.explain(plane, request(rows(1)), clock.monotonic() + 0.5)

    asyncio.run(go())
    explainer.close()
    assert reads == [plane.model.identity]


def test_a_reference_that_cannot_be_warmed_is_told_and_nothing_else(
    plane: DataPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken_stand_in(package: Package) -> dict[str, np.ndarray]:
        raise NotFoundError("has no column 'x'", where="reference")

    monkeypatch.setattr("davy.predictor.explain.background", broken_stand_in)
    with capture_logs() as logs:
        explainer = Explainer(ExplainLimits(1.0, 4, 8), SystemClock())
        explainer.warm(plane.model)
        explainer._worker.submit(lambda: None).result()
    explainer.close()
    assert [log["event"] for log in logs] == ["scores cannot be explained"]


def test_too_many_at_once_are_shed(plane: DataPlane) -> None:
    free = threading.Event()

    class HeldModel:
        """A stand-in that waits until it is let go."""

        package = plane.model.package
        contract = plane.model.contract
        identity = plane.model.identity

        def run(self, feed: Any, outputs: tuple[str, ...]) -> Any:
            free.wait(10)
            return plane.model.run(feed, outputs)

    held: Any = HeldModel()
    explainer = Explainer(ExplainLimits(seconds=9.0, rows=4, samples=4), SystemClock())
    explained = DataPlane(held, plane.policy, plane.metrics)

    async def go() -> list[Any]:
        tasks = [
            asyncio.create_task(explainer.explain(explained, request(rows()), None))
            for _ in range(MOST_WAITING)
        ]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            await explainer.explain(explained, request(rows()), None)
        free.set()
        return await asyncio.gather(*tasks)

    assert len(asyncio.run(go())) == MOST_WAITING
    explainer.close()


@pytest.mark.parametrize(
    ("outputs", "explained"),
    [
        ([("rank", "INT64", [-1]), ("score", "FP32", [-1])], "score"),
        (
            [("label", "INT64", [-1]), ("probability", "FP64", [-1, 1]), ("x", "FP32", [-1])],
            "probability",
        ),
        ([("probabilities", "FP32", [-1, 3])], ""),
        ([("label", "INT64", [-1])], ""),
    ],
)
def test_what_is_explained_is_what_is_counted_as_the_score(
    plane: DataPlane, outputs: list[tuple[str, str, list[int]]], explained: str
) -> None:
    specs = [TensorSpec(name=n, datatype=d, shape=s) for n, d, s in outputs]
    contract = plane.model.contract.model_copy(update={"outputs": specs})
    stand_in: Any = SimpleNamespace(model=SimpleNamespace(contract=contract))
    if explained == "":
        with pytest.raises(InvalidInputError, match="not one number a row"):
            _output(stand_in)
    else:
        assert _output(stand_in) == score_output(specs) == explained


def test_a_model_without_a_score_is_not_explained(
    tiny: ModuleType, registry: CollectorRegistry, model: Model
) -> None:
    spec = TensorSpec(name="kind", datatype="INT64", shape=[1])
    contract = model.contract.model_copy(update={"inputs": [spec]})

    class FixedModel:
        """A stand-in whose contract has no rows."""

    fixed: Any = FixedModel()
    fixed.contract = contract
    fixed.identity = model.identity
    fixed.package = model.package
    plane = DataPlane(
        fixed,
        InputPolicy(contract.inputs),
        PredictorMetrics(MetricFamilies(registry), contract, "0"),
    )
    explainer = Explainer(ExplainLimits(seconds=1.0, rows=4, samples=4), SystemClock())
    handler = Handler(
        Models(Catalogue((Served(plane, NoSink(), model.package.path),))),
        explainer,
        clock=SystemClock(),
        max_body_bytes=1000,
    )
    answer = post(handler, request({"kind": np.array([1])}))
    assert answer.status_code == 400
    assert "no rows to explain" in answer.json()["error"]


def packaged(tiny: ModuleType, folder: Path, reference: dict[str, Any]) -> Package:
    folder.mkdir(exist_ok=True)
    path = folder / "reference.parquet"
    pq.write_table(pa.table(reference), path)
    files = {"model.onnx": tiny.write_onnx(folder / "model.onnx"), "reference.parquet": path}
    return write_package(folder / "store", tiny.contract(), files, private_key=None)


def test_the_background_is_the_reference_in_the_models_datatypes(
    tiny: ModuleType, package: Package, tmp_path: Path
) -> None:
    columns = background(package)
    assert [columns[name].dtype.str for name in FEATURES] == ["<i8", "<f4", "<f4", "<i8"]
    np.testing.assert_array_equal(columns["amount"], tiny.reference_rows(50)["amount"])
    many = packaged(tiny, tmp_path, tiny.reference_rows(MOST_ROWS + 500))
    assert len(background(many)["kind"]) == MOST_ROWS
    np.testing.assert_array_equal(background(many)["kind"], background(many)["kind"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"visits": None}, "has no column 'visits'"),
        ({"kind": ["a", "b"]}, "column 'kind' does not fit INT64"),
        ({"kind": [None, 1]}, "column 'kind' does not fit INT64"),
        ({"amount": [[1.0], [2.0]]}, "column 'amount' does not fit FP32"),
    ],
)
def test_a_reference_that_does_not_fit_is_named(
    tiny: ModuleType, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    columns = {name: list(data) for name, data in tiny.reference_rows(2).items()} | change
    columns = {name: data for name, data in columns.items() if data is not None}
    package = packaged(tiny, tmp_path, columns)
    with pytest.raises(NotFoundError, match=message):
        background(package)
    model = load_model(package.path, public_key=None)
    assert model.package.identity == package.identity


def test_missing_numbers_of_the_reference_are_missing(tiny: ModuleType, tmp_path: Path) -> None:
    columns = {name: list(data) for name, data in tiny.reference_rows(3).items()}
    columns["visits"][1] = None
    assert np.isnan(background(packaged(tiny, tmp_path, columns))["visits"]).tolist() == [
        False,
        True,
        False,
    ]
