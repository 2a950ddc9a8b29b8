from types import ModuleType
from typing import Any

import numpy as np
import pytest

from davy.packaging.contract import Contract
from davy.predictor.model import Model
from davy.predictor.probe import ROWS, examples, why_not_together
from davy.protocol.tensors import tensor


@pytest.fixture
def contract(tiny: ModuleType) -> Contract:
    return Contract.model_validate(tiny.contract())


def test_the_tiny_model_can_be_batched(model: Model) -> None:
    assert model.together
    assert model.speed.seconds(1) > 0


def test_rows_are_allowed_by_the_contract(tiny: ModuleType) -> None:
    inputs = [
        {"name": "word", "datatype": "BYTES", "categories": ["a", "b"]},
        {"name": "flag", "datatype": "BOOL"},
        {"name": "code", "datatype": "INT32", "categories": [3, 7]},
        {"name": "low", "datatype": "FP32", "range": {"low": 5}},
        {"name": "high", "datatype": "FP64", "range": {"high": -5}},
        {"name": "block", "datatype": "FP32", "shape": [-1, 3, -1], "range": {"low": 0, "high": 2}},
    ]
    feed = examples(Contract.model_validate(tiny.contract(inputs=inputs)), 20)
    assert set(feed["word"]) == {b"a", b"b"}
    assert feed["flag"].dtype == np.bool_
    assert set(feed["code"]) == {3, 7}
    assert feed["low"].min() >= 5
    assert feed["high"].max() <= -5
    assert feed["block"].shape == (20, 3, 1)


def test_a_model_that_scales_by_its_batch_is_not_batched(contract: Contract) -> None:
    def run(feed: Any, outputs: Any) -> Any:
        return (tensor("score", (feed["amount"] / feed["amount"].max()).astype(np.float32)),)

    assert "moves by more than 1e-05" in why_not_together(contract, run)


@pytest.mark.parametrize(("noise", "together"), [(1e-7, True), (1e-3, False)])
def test_the_tolerance_is_the_contracts(contract: Contract, noise: float, together: bool) -> None:
    def run(feed: Any, outputs: Any) -> Any:
        moved = feed["amount"] * (1 + noise * (len(feed["amount"]) == ROWS))
        return (tensor("score", moved.astype(np.float64)),)

    assert (not why_not_together(contract, run)) == together
    loose = contract.model_copy(update={"tolerance": 1e-2})
    assert not why_not_together(loose, run)


@pytest.mark.parametrize("alone", [np.inf, -np.inf, np.nan])
def test_a_value_that_is_no_number_is_close_to_itself_alone(
    contract: Contract, alone: float
) -> None:
    def run(feed: Any, outputs: Any) -> Any:
        whole = len(feed["amount"]) == ROWS
        return (tensor("score", np.full(len(feed["amount"]), 1.0 if whole else alone)),)

    def same(feed: Any, outputs: Any) -> Any:
        return (tensor("score", np.full(len(feed["amount"]), alone)),)

    assert "moves by more" in why_not_together(contract, run)
    assert not why_not_together(contract, same)


def test_a_model_without_a_row_for_each_row_is_not_batched(contract: Contract) -> None:
    def run(feed: Any, outputs: Any) -> Any:
        return (tensor("score", feed["amount"][:1]),)

    assert "has shape [1] for 64 rows" in why_not_together(contract, run)


def test_fixed_shapes_and_failing_models_are_not_batched(tiny: ModuleType) -> None:
    outputs = [{"name": "score", "datatype": "FP32", "shape": [1]}]
    fixed = Contract.model_validate(tiny.contract(outputs=outputs))
    assert "no dimension of rows" in why_not_together(fixed, lambda feed, names: ())

    def run(feed: Any, names: Any) -> Any:
        raise RuntimeError("no")

    assert why_not_together(Contract.model_validate(tiny.contract()), run) == "no"
