"""Answers that break the contract: which rule, and counted once each."""

import asyncio
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from davy.core.clock import SystemClock
from davy.packaging.contract import Contract, TensorSpec
from davy.packaging.package import Package
from davy.predictor.admission import Limits
from davy.predictor.batcher import Batcher
from davy.predictor.families import MetricFamilies
from davy.predictor.metrics import PredictorMetrics
from davy.predictor.model import load_model
from davy.predictor.outputs import FEW, OutputPolicy, rules
from davy.predictor.plane import DataPlane
from davy.predictor.validation import InputPolicy
from davy.protocol.tensors import Tensor, tensor
from davy.protocol.v2 import InferRequest


def policy(tiny: ModuleType, *outputs: TensorSpec, **changes: Any) -> OutputPolicy:
    document = tiny.contract(outputs=[spec.model_dump() for spec in outputs], **changes)
    return OutputPolicy(Contract.model_validate(document))


def of(spec: TensorSpec, values: Any) -> Tensor:
    data = np.asarray(values)
    return Tensor(spec.name, spec.datatype, data.shape, data)


SCORE = TensorSpec(name="score", datatype="FP32", range={"low": 0, "high": 1})
FREE = TensorSpec(name="free", datatype="FP32")
GAPS = TensorSpec(name="gaps", datatype="FP32", missing="allow", range={"low": 0, "high": 1})
KIND = TensorSpec(name="kind", datatype="INT64", categories=[1, 3])
WORD = TensorSpec(name="word", datatype="BYTES", categories=["yes", "no"])
PAIRS = TensorSpec(name="pairs", datatype="FP64", shape=[-1, 2])
COUNT = TensorSpec(name="count", datatype="INT32", range={"low": 0})
WHOLE = TensorSpec(name="whole", datatype="FP32", shape=[])
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("spec", "values", "rule"),
    [
        (SCORE, [0.0, 1.0], None),
        (SCORE, [0.5, 1.1], "range"),
        (SCORE, [-0.1, 0.5], "range"),
        (SCORE, [NAN, 0.5], "finite"),
        (SCORE, [-INF, 0.5], "finite"),
        (SCORE, [0.5], "shape"),
        (SCORE, [[0.5], [0.5]], "shape"),
        (SCORE, 0.5, "shape"),
        (FREE, [1e38, -1e38], None),
        (FREE, [INF, 0.0], "finite"),
        (FREE, [0.0, NAN], "finite"),
        (GAPS, [NAN, 1.0], None),
        (GAPS, [NAN, 1.5], "range"),
        (GAPS, [NAN, INF], "finite"),
        (KIND, [1, 3], None),
        (KIND, [1, 2], "category"),
        (WORD, np.array([b"yes", b"no"], object), None),
        (WORD, np.array([b"yes", b"maybe"], object), "category"),
        (PAIRS, [[1.0, 2.0], [3.0, 4.0]], None),
        (PAIRS, [[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]], "shape"),
        (COUNT, np.array([0, 2**31 - 1], np.int32), None),
        (COUNT, np.array([-1, 0], np.int32), "range"),
        (WHOLE, 0.5, None),
        (WHOLE, NAN, "finite"),
    ],
)
def test_the_rule_that_an_answer_of_two_rows_breaks(
    tiny: ModuleType, spec: TensorSpec, values: Any, rule: str | None
) -> None:
    expected = None if rule is None else (spec.name, rule)
    assert policy(tiny, spec).broken([of(spec, values)], 2) == expected
    assert rule is None or rule in rules(spec), "it would have no counter"


@pytest.mark.parametrize("bad", [NAN, INF, 1.5, -0.5])
@pytest.mark.parametrize("place", [0, FEW, 500])
def test_one_value_among_many_rows_is_found(tiny: ModuleType, bad: float, place: int) -> None:
    values = np.full(501, 0.5, np.float32)
    values[place] = bad
    found = policy(tiny, SCORE).broken([of(SCORE, values)], 501)
    assert found == ("score", "range" if np.isfinite(bad) else "finite")


def test_many_rows_that_break_nothing_are_fine(tiny: ModuleType) -> None:
    kinds = np.tile(np.array([1, 3]), 100)
    both = [of(SCORE, np.full(200, 0.5, np.float32)), of(KIND, kinds)]
    assert policy(tiny, SCORE, KIND).broken(both, 200) is None
    kinds[150] = 2
    assert policy(tiny, SCORE, KIND).broken(both, 200) == ("kind", "category")


@pytest.mark.parametrize("rows", [1, 100])
def test_bounds_may_be_passed_by_the_tolerance_of_the_contract(tiny: ModuleType, rows: int) -> None:
    checking = policy(tiny, SCORE, tolerance=1e-4)
    assert checking.broken([of(SCORE, np.full(rows, 1 + 5e-5))], rows) is None
    assert checking.broken([of(SCORE, np.full(rows, 1 + 2e-4))], rows) == ("score", "range")


def test_the_first_of_several_outputs_counts(tiny: ModuleType) -> None:
    checking = policy(tiny, SCORE, FREE)
    assert checking.broken([of(FREE, [NAN]), of(SCORE, [2.0])], 1) == ("free", "finite")
    assert checking.broken([of(SCORE, [2.0]), of(FREE, [NAN])], 1) == ("score", "range")


def test_without_a_dimension_of_rows_in_the_inputs_any_number_of_rows_is_right(
    tiny: ModuleType,
) -> None:
    inputs = [{"name": "image", "datatype": "FP32", "shape": [3, 8, 8]}]
    assert policy(tiny, SCORE, inputs=inputs).broken([of(SCORE, [0.1, 0.2, 0.3])], 1) is None


@given(st.lists(st.floats(width=32), min_size=1, max_size=40))
def test_few_and_many_values_are_judged_alike(values: list[float]) -> None:
    spec = TensorSpec(name="score", datatype="FP32", range={"low": -2, "high": 1e6})
    fields = {"inputs": [spec], "outputs": [spec], "tolerance": 0.0}
    checking = OutputPolicy(Contract.model_construct(**fields))
    data = np.array(values, np.float32)
    alone = {checking.broken([of(spec, data[i : i + 1])], 1) for i in range(len(data))} - {None}
    together = checking.broken([of(spec, np.tile(data, FEW))], len(data) * FEW)
    assert (together is None) == (not alone)
    assert together in alone or together is None


@pytest.fixture
def breaking(tiny: ModuleType, tmp_path: Path) -> Package:
    """A real model that answers NaN where an amount is missing, which its contract lets through."""
    inputs = tiny.contract()["inputs"]
    inputs[1]["missing"] = "flag"
    return tiny.write_tiny_package(tmp_path, inputs=inputs)


def request(amounts: list[float]) -> InferRequest:
    rows = len(amounts)
    columns = {
        "kind": np.zeros(rows, np.int64),
        "amount": np.array(amounts, np.float32),
        "visits": np.zeros(rows, np.float32),
        "channel": np.ones(rows, np.int64),
    }
    return InferRequest(tuple(tensor(name, values) for name, values in columns.items()))


@pytest.mark.parametrize("batched", [True, False])
def test_an_answer_with_nan_is_given_and_counted_once(
    breaking: Package, registry: CollectorRegistry, batched: bool
) -> None:
    model = load_model(breaking.path, public_key=None)
    metrics = PredictorMetrics(MetricFamilies(registry), model.contract, model.identity)
    batcher = Batcher(Limits(), SystemClock()) if batched else None
    plane = DataPlane(model, InputPolicy(model.contract.inputs), metrics, batcher)

    def counted() -> dict[str, float | None]:
        labels = {"model": "tiny", "version": model.contract.version, "output": "score"}
        name = "davy_output_violations_total"
        return {
            rule: registry.get_sample_value(name, {**labels, "rule": rule})
            for rule in ("shape", "finite", "range", "category")
        }

    # Rules that the contract cannot break have no series.
    assert counted() == {"shape": 0, "finite": 0, "range": None, "category": None}
    for amounts in ([1.0], [2.0] * 50, [NAN], [NAN, 1.0, NAN], [*[1.0] * 50, NAN]):
        answer = asyncio.run(plane.answer(request(amounts)))
        assert np.isnan(answer.outputs[0].data).tolist() == np.isnan(amounts).tolist()
    assert counted() == {"shape": 0, "finite": 3, "range": None, "category": None}
