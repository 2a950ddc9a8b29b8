"""Several requests at once get what each would have got alone, and count the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from davy.core.clock import SystemClock
from davy.core.errors import PermanentError
from davy.predictor.admission import Limits, Speed
from davy.predictor.batcher import Batcher
from davy.predictor.crowd import answer_together
from davy.predictor.families import MetricFamilies
from davy.predictor.metrics import PredictorMetrics
from davy.predictor.model import Model
from davy.predictor.plane import DataPlane
from davy.predictor.validation import InputPolicy
from davy.predictor.work import Work
from davy.protocol.tensors import tensor
from davy.protocol.v2 import InferRequest, InferResponse, RequestedOutput

# What differs between two runs of the same requests.
TIMES = ("davy_queue_seconds", "davy_batch_rows")


class Counted:
    """A plane over its own metrics."""

    def __init__(self, model: Model, *, bounds_only: bool, limits: Limits | None = None) -> None:
        specs = model.contract.inputs
        if bounds_only:
            specs = [spec.model_copy(update={"categories": None}) for spec in specs]
        self.registry = CollectorRegistry()
        metrics = PredictorMetrics(MetricFamilies(self.registry), model.contract, model.identity)
        self.batcher = Batcher(limits or Limits(inline_seconds=60.0), SystemClock())
        self.plane = DataPlane(model, InputPolicy(specs), metrics, self.batcher)

    def together(self, requests: list[InferRequest]) -> list[Any]:
        return answer_together(self.plane, self.batcher, requests, SystemClock().monotonic())

    def counts(self) -> dict[Any, float]:
        return {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in self.registry.collect()
            if family.name not in TIMES
            for sample in family.samples
            if not sample.name.endswith("_created")
        }

    def runs(self) -> float:
        labels = {"model": self.plane.name, "version": self.plane.version}
        return self.registry.get_sample_value("davy_batch_rows_count", labels) or 0.0


def request(rows: int = 1, outputs: tuple[str, ...] = (), **changes: Any) -> InferRequest:
    columns: dict[str, Any] = {
        "kind": np.arange(rows) % 6,
        "amount": np.linspace(0, 100, rows, dtype=np.float32),
        "visits": np.full(rows, np.nan, np.float32),
        "channel": np.full(rows, 2),
    }
    columns = {name: array for name, array in (columns | changes).items() if array is not None}
    inputs = tuple(tensor(name, data) for name, data in columns.items())
    return InferRequest(inputs, f"r{rows}", tuple(RequestedOutput(name) for name in outputs))


def told(result: Any) -> Any:
    if isinstance(result, InferResponse):
        arrays = {t.name: (t.shape, np.round(t.data, 5).tolist()) for t in result.outputs}
        return result.id, arrays, dict(result.parameters)
    return type(result), str(result)


REQUESTS: dict[str, Callable[[], InferRequest]] = {
    "one row": request,
    "rows": lambda: request(5),
    "one output": lambda: request(2, ("score",)),
    "no such output": lambda: request(2, ("none",)),
    "out of range": lambda: request(amount=np.array([1e9], np.float32)),
    "not a number": lambda: request(amount=np.array([np.nan], np.float32)),
    "another category": lambda: request(kind=np.array([77])),
    "another dtype": lambda: request(amount=np.array([1.0])),
    "an input is missing": lambda: request(amount=None),
    "an input too many": lambda: request(more=np.array([1.0])),
    "no rows": lambda: request(0),
}


@pytest.mark.parametrize("bounds_only", [False, True])
@given(names=st.lists(st.sampled_from(sorted(REQUESTS)), max_size=9))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_each_gets_what_it_would_alone(model: Model, bounds_only: bool, names: list[str]) -> None:
    crowd, alone = (Counted(model, bounds_only=bounds_only) for _ in range(2))
    results = crowd.together([REQUESTS[name]() for name in names])
    expected = [alone.together([REQUESTS[name]()])[0] for name in names]
    assert [told(result) for result in results] == [told(result) for result in expected]
    assert crowd.counts() == alone.counts()


@pytest.mark.parametrize("bounds_only", [False, True])
def test_what_is_alike_is_executed_once(model: Model, bounds_only: bool) -> None:
    counted = Counted(model, bounds_only=bounds_only)
    counted.together([request(rows) for rows in (1, 2, 3, 1)])
    assert counted.runs() == 1


def test_what_is_too_long_together_is_executed_in_parts(model: Model) -> None:
    counted = Counted(model, bounds_only=True, limits=Limits(inline_seconds=1.0))
    counted.plane = slow_plane(counted)
    results = counted.together([request(2) for _ in range(5)] + [request(9)])
    assert [type(result) for result in results] == [InferResponse] * 5 + [Work]


class SlowSpeed(Speed):
    """Says that a row takes 0.3 s, whatever it took."""

    def seconds(self, rows: int) -> float:
        return 0.3 * rows


def slow_plane(counted: Counted) -> DataPlane:
    class Slow:
        """Executes, and says that it is slow."""

        together = True
        speed = SlowSpeed()

        def __init__(self, model: Model) -> None:
            self.run = model.run

    object.__setattr__(counted.plane, "_executes", Slow(counted.plane.model))
    return counted.plane


def test_one_that_cannot_be_executed_fails_alone(model: Model) -> None:
    counted = Counted(model, bounds_only=True)

    class Failing:
        """Cannot execute three rows or more in which one is special."""

        together = True
        speed = Speed()

        def run(self, feed: Any, outputs: tuple[str, ...]) -> Any:
            if (feed["amount"] == 13).any():
                raise PermanentError("it is 13", where="here")
            return model.run(feed, outputs)

    object.__setattr__(counted.plane, "_executes", Failing())
    bad = request(amount=np.array([13.0], np.float32))
    results = counted.together([request(), bad, request()])
    assert [type(result) for result in results] == [InferResponse, PermanentError, InferResponse]
