from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from davy.packaging.contract import TensorSpec
from davy.predictor.families import MetricFamilies
from davy.predictor.metrics import PredictorMetrics
from davy.predictor.model import Model
from davy.predictor.plane import DataPlane
from davy.predictor.validation import InputPolicy
from davy.protocol.tensors import tensor
from davy.protocol.v2 import InferRequest, RequestedOutput

COLUMNS = {
    "kind": np.zeros(2, np.int64),
    "amount": np.zeros(2, np.float32),
    "visits": np.zeros(2, np.float32),
    "channel": np.ones(2, np.int64),
}


class StandInSession:
    """Answers 0.5 for every score and a number above every bucket for every margin."""

    def run(self, names: list[str], feed: dict[str, Any]) -> list[Any]:
        values = {"score": 0.5, "margin": 9.0}
        return [np.full(len(feed["kind"]), values[name], np.float32) for name in names]


@pytest.mark.parametrize(
    ("asked", "counted"),
    [((), 2), (("score", "margin"), 2), (("margin", "score"), 2), (("margin",), 0)],
)
def test_scores_are_counted_whatever_else_is_asked_for_before_them(
    model: Model, registry: CollectorRegistry, asked: tuple[str, ...], counted: int
) -> None:
    outputs = [TensorSpec(name="margin", datatype="FP32"), *model.contract.outputs]
    contract = model.contract.model_copy(update={"outputs": outputs})
    stand_in = replace(
        model,
        package=replace(model.package, contract=contract),
        opened=replace(model.opened, session=StandInSession()),
    )
    plane = DataPlane(
        stand_in,
        InputPolicy(contract.inputs),
        PredictorMetrics(MetricFamilies(registry), contract, model.identity),
    )
    inputs = tuple(tensor(name, values) for name, values in COLUMNS.items())
    wanted = tuple(RequestedOutput(name) for name in asked)
    answer = plane.infer(InferRequest(inputs, outputs=wanted))
    assert [item.name for item in answer.outputs] == list(asked or ("margin", "score"))
    labels = {"model": "tiny", "version": contract.version}
    found = {
        bucket: registry.get_sample_value("davy_predictions_total", {**labels, "bucket": bucket})
        for bucket in ("0.6", "+Inf")
    }
    assert found == {"0.6": counted, "+Inf": 0}
