"""Which segment a request is in, and that no client can make another series."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from davy.core.clock import SystemClock
from davy.core.errors import ConfigurationError
from davy.packaging.contract import Contract
from davy.packaging.package import Package
from davy.predictor.admission import Limits
from davy.predictor.batcher import Batcher
from davy.predictor.catalogue import Catalogue, Models, Served
from davy.predictor.families import MetricFamilies
from davy.predictor.http import Answer
from davy.predictor.lane import Asked, Lane
from davy.predictor.metrics import PredictorMetrics
from davy.predictor.model import Model
from davy.predictor.payload import NoSink
from davy.predictor.plane import DataPlane
from davy.predictor.segments import MOST_COMBINATIONS, SegmentReader, Segments, problem
from davy.predictor.settings import PredictorSettings
from davy.predictor.turns import Turns
from davy.predictor.validation import InputPolicy
from davy.predictor.verify import check
from davy.protocol.tensors import tensor
from davy.protocol.v2 import InferRequest, encode_request

SPLIT = (
    "davy_requests_total",
    "davy_request_seconds_bucket",
    "davy_request_seconds_count",
    "davy_predictions_total",
    "davy_outliers_total",
    "davy_output_violations_total",
)
LISTED = {"country": ["de", "at"], "tier": ["gold"]}


@pytest.fixture(scope="module")
def contract(tiny: ModuleType) -> Contract:
    inputs = [
        {"name": "country", "datatype": "BYTES", "policy": "flag"},
        {"name": "tier", "datatype": "INT16"},
        {"name": "member", "datatype": "BOOL"},
        {"name": "price", "datatype": "FP32"},
    ]
    return Contract.model_validate(tiny.contract(inputs=inputs))


def text(*values: str) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = [value.encode() for value in values]
    return array


def asked(parameters: Mapping[str, Any] | None = None, **columns: np.ndarray) -> InferRequest:
    inputs = tuple(tensor(name, values) for name, values in columns.items())
    return InferRequest(inputs, parameters=parameters or {})


def found(
    contract: Contract, listed: Mapping[str, Sequence[str]], request: InferRequest
) -> tuple[str, ...]:
    segments = Segments.of(listed)
    return segments.combinations()[SegmentReader(segments, contract).place(request)]


@pytest.mark.parametrize("country", ["de", "at", "fr", "other", "", "DE"])
@pytest.mark.parametrize("tier", ["gold", "none"])
def test_each_combination_has_a_place(contract: Contract, country: str, tier: str) -> None:
    named = {"country": country, "level": tier}
    listed = {"country": ["de", "at"], "level": ["gold"]}
    wanted = tuple(v if v in listed[label] else "other" for label, v in named.items())
    assert found(contract, listed, asked(named)) == wanted


def test_a_column_tells_where_no_parameter_does(contract: Contract) -> None:
    listed = {"country": ["de", "at"]}
    column = {"country": text("at", "at")}
    assert found(contract, listed, asked(**column)) == ("at",)
    assert found(contract, listed, asked({"country": "de"}, **column)) == ("de",)
    assert found(contract, listed, asked({"country": "fr"}, **column)) == ("other",)


def test_rows_that_differ_are_in_no_segment(contract: Contract) -> None:
    listed = {"country": ["de", "at"]}
    assert found(contract, listed, asked(country=text("at", "at", "de"))) == ("other",)
    assert found(contract, listed, asked(country=text("xx", "at"))) == ("other",)
    assert found(contract, listed, asked(country=text())) == ("other",)


@pytest.mark.parametrize(
    ("label", "values", "column", "wanted"),
    [
        ("tier", ["1", "20"], np.array([20, 20], np.int16), "20"),
        ("tier", ["1", "20"], np.array([2], np.int16), "other"),
        ("tier", ["1", "20"], np.array([20], np.int64), "other"),
        ("member", ["true", "false"], np.array([False]), "false"),
        ("price", ["1.5"], np.array([1.5], np.float32), "1.5"),
        ("price", ["1.5"], np.array([np.nan], np.float32), "other"),
        ("price", ["1.5"], np.array([1.5, np.nan], np.float32), "other"),
    ],
)
def test_columns_of_every_kind(
    contract: Contract, label: str, values: list[str], column: np.ndarray, wanted: str
) -> None:
    assert found(contract, {label: values}, asked(**{label: column})) == (wanted,)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(7, "7"), (True, "true"), ("7", "7"), (7.0, "other"), (None, "other")],
)
def test_parameters_of_every_kind(contract: Contract, value: Any, wanted: str) -> None:
    assert found(contract, {"shop": ["7", "true"]}, asked({"shop": value})) == (wanted,)


def test_a_parameter_of_thousands_of_digits(contract: Contract) -> None:
    assert found(contract, {"shop": ["7"]}, asked({"shop": 10**5000})) == ("other",)


@pytest.mark.parametrize(("label", "value"), [("tier", "gold"), ("member", "yes"), ("price", "x")])
def test_values_that_an_input_cannot_have_are_refused(
    contract: Contract, label: str, value: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"'{value}' is no value of input '{label}'"):
        SegmentReader(Segments.of({label: [value]}), contract)


@pytest.mark.parametrize(
    ("listed", "wrong"),
    [
        ({"2nd": ["a"]}, "'2nd' cannot be a label"),
        ({"a-b": ["a"]}, "cannot be a label"),
        ({"": ["a"]}, "cannot be a label"),
        ({"a\n": ["a"]}, "cannot be a label"),
        ({"__name__": ["a"]}, "cannot be a label"),
        ({"version": ["a"]}, "none of the metrics'"),
        ({"instance": ["a"]}, "none of the metrics'"),
        ({"a": []}, "needs values"),
        ({"a": ["x", "x"]}, "each once"),
        ({"a": ["other"]}, "'other' is what is not listed"),
        ({"a": [""]}, "1 to 100 characters"),
        ({"a": ["x" * 101]}, "1 to 100 characters"),
        ({"a": [f"{i}" for i in range(MOST_COMBINATIONS)]}, "65 combinations"),
        ({"a": list("123456789"), "b": list("123456")}, "70 combinations"),
    ],
)
def test_what_cannot_be_bounded_is_refused(listed: dict[str, list[str]], wrong: str) -> None:
    assert wrong in problem(listed)


def test_what_can_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert problem({}) == ""
    assert problem({"a": list("1234567"), "b": list("1234567")}) == ""
    monkeypatch.setenv("DAVY_PREDICTOR_SEGMENTS", '{"country": ["de", "at"]}')
    assert PredictorSettings.load().segments == {"country": ("de", "at")}
    monkeypatch.setenv("DAVY_PREDICTOR_SEGMENTS", '{"le": ["de"]}')
    with pytest.raises(ConfigurationError, match=r"DAVY_PREDICTOR_SEGMENTS.*'le'"):
        PredictorSettings.load()


def test_settings_that_do_not_fit_the_package_stop_the_start(package: Package) -> None:
    with pytest.raises(ConfigurationError, match="'gold' is no value of input 'kind'"):
        check(PredictorSettings(model_dir=package.path, segments={"kind": ("gold",)}))
    check(PredictorSettings(model_dir=package.path, segments={"kind": ("1",), "x": ("gold",)}))


def labels_of(registry: CollectorRegistry) -> dict[str, list[dict[str, str]]]:
    labels: dict[str, list[dict[str, str]]] = {}
    for family in registry.collect():
        for sample in family.samples:
            labels.setdefault(sample.name, []).append(sample.labels)
    return labels


def counting(
    model: Model, registry: CollectorRegistry, listed: Mapping[str, Sequence[str]]
) -> DataPlane:
    segments = Segments.of(listed)
    metrics = PredictorMetrics(MetricFamilies(registry, segments), model.contract, model.identity)
    metrics.score_outliers()
    reader = SegmentReader(segments, model.contract) if listed else None
    return DataPlane(model, InputPolicy(model.contract.inputs), metrics, segments=reader)


def test_without_the_setting_there_is_no_label(model: Model, registry: CollectorRegistry) -> None:
    counting(model, registry, {})
    labels = labels_of(registry)
    for name in SPLIT:
        known = {"model", "version", "outcome", "le", "bucket", "output", "rule"}
        assert all(set(item) <= known for item in labels[name])


def test_every_segment_is_at_nought_from_the_start(
    model: Model, registry: CollectorRegistry
) -> None:
    counting(model, registry, LISTED)
    labels = labels_of(registry)
    for name in SPLIT:
        combinations = {(item["country"], item["tier"]) for item in labels[name]}
        assert len(combinations) == 6
    assert "country" not in labels["davy_batch_rows_count"][0]


def features(rows: int = 1) -> dict[str, np.ndarray]:
    return {
        "kind": np.zeros(rows, np.int64),
        "amount": np.ones(rows, np.float32),
        "visits": np.zeros(rows, np.float32),
        "channel": np.ones(rows, np.int64),
    }


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    parameters=st.dictionaries(
        st.sampled_from(["country", "tier", "x"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text()
        | st.sampled_from(["de", "gold"]) | st.lists(st.text()),
    )
)  # fmt: skip
def test_no_client_makes_a_series(model: Model, parameters: dict[str, Any]) -> None:
    registry = CollectorRegistry()
    plane = counting(model, registry, LISTED)
    before = labels_of(registry)
    request = asked(parameters, **features())
    plane.infer(request)
    plane.metrics.request("ok", 0.1, plane.segment(request))
    assert labels_of(registry) == before


def test_scores_and_requests_are_counted_where_they_belong(
    model: Model, registry: CollectorRegistry
) -> None:
    plane = counting(model, registry, LISTED)
    for country, rows in (("de", 3), ("at", 1), ("fr", 2)):
        request = asked({"country": country, "tier": "gold"}, **features(rows))
        plane.infer(request)
        plane.metrics.request("ok", 0.1, plane.segment(request))
    plane.metrics.request("shed", 0.0)

    assert total(registry, "davy_predictions_total", country="de", tier="gold") == 3
    assert total(registry, "davy_predictions_total", country="other", tier="gold") == 2
    assert total(registry, "davy_predictions_total", tier="other") == 0
    assert total(registry, "davy_requests_total", country="at") == 1
    shed = {"country": "other", "tier": "other", "outcome": "shed"}
    assert total(registry, "davy_requests_total", **shed) == 1
    assert total(registry, "davy_request_seconds_count", country="de") == 1


def total(registry: CollectorRegistry, metric: str, **wanted: str) -> float:
    return sum(
        sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == metric and wanted.items() <= sample.labels.items()
    )


class StandInClient:
    """Whoever asked; it keeps the answer."""

    def __init__(self) -> None:
        self.answer: Answer | None = None

    def tell(self, answer: Answer) -> None:
        self.answer = answer


def test_requests_of_one_turn_are_counted_each_in_its_own(
    package: Package, model: Model, registry: CollectorRegistry
) -> None:
    clock = SystemClock()
    batcher = Batcher(Limits(inline_seconds=10.0), clock)
    plane = replace(counting(model, registry, {"country": ["de", "at"]}), batcher=batcher)
    models = Models(Catalogue((Served(plane, NoSink(), package.path),)))
    clients = [StandInClient() for _ in range(7)]

    async def go() -> None:
        lane = Lane(models, batcher, clock=clock, turns=Turns(clock), max_body_bytes=10_000)
        route = lane.route(b"/v2/models/tiny/infer")
        assert route is not None
        for client, country in zip(clients, ["de", "at", "de", "fr", "de", "at", "?"], strict=True):
            body = encode_request(asked({"country": country}, **features(2))).body
            lane.take(Asked(client, route, [], body[: 9 if country == "?" else None]))
        async with asyncio.timeout(10):
            while any(client.answer is None for client in clients):
                await asyncio.sleep(0.001)

    asyncio.run(go())
    batcher.close()
    assert [client.answer and client.answer.status for client in clients] == [200] * 6 + [400]
    for country, count in (("de", 3), ("at", 2), ("other", 1)):
        assert total(registry, "davy_requests_total", country=country, outcome="ok") == count
        assert total(registry, "davy_predictions_total", country=country) == 2 * count
    assert total(registry, "davy_requests_total", country="other", outcome="client_error") == 1
