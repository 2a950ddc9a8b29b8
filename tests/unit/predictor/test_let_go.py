"""A request that is refused leaves nothing behind, though the collector does not come."""

import asyncio
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import orjson
import pytest
from prometheus_client import CollectorRegistry

from davy.core.clock import SystemClock
from davy.core.errors import OverloadedError, PermanentError
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
from davy.predictor.turns import Turns
from davy.predictor.validation import InputPolicy

LARGE = 1_000_000
INFER = "/v2/models/tiny/infer"


def body(**changes: Any) -> bytes:
    columns = {
        "kind": ("INT64", [1]),
        "amount": ("FP32", [5.0]),
        "visits": ("FP32", [1.0]),
        "channel": ("INT64", [2]),
    }
    inputs = [
        {"name": name, "datatype": datatype, "shape": [1], "data": values}
        for name, (datatype, values) in columns.items()
    ]
    return orjson.dumps({"inputs": inputs, "parameters": {"more": "x" * LARGE}, **changes})


def fine() -> bytes:
    return body()


BAD: dict[str, tuple[Callable[[], bytes], dict[str, str], int]] = {
    "malformed": (lambda: body()[:-1], {}, 400),
    "no such output": (lambda: body(outputs=[{"name": "nothing"}]), {}, 400),
    "an input is missing": (lambda: body(inputs=orjson.loads(body())["inputs"][:1]), {}, 400),
    "late": (fine, {"davy-timeout-ms": "0"}, 504),
}


@contextmanager
def nothing_is_kept() -> Iterator[None]:
    """Hold that no large body outlives the block."""

    def kept() -> int:
        return sum(
            {
                id(found): len(found)
                for holder in gc.get_objects()
                for found in gc.get_referents(holder)
                if type(found) in (bytes, str) and len(found) >= LARGE
            }.values()
        )

    gc.collect()
    gc.disable()
    try:
        before = kept()
        yield
        assert kept() == before
    finally:
        gc.enable()


class StandInClient:
    """Whoever asked; it keeps the status."""

    def __init__(self) -> None:
        self.status = 0

    def tell(self, answer: Answer) -> None:
        self.status = answer.status


class Bench:
    """A lane and a handler over one plane, of which the batcher or the model may be a stand-in."""

    def __init__(self, package: Package, model: Any, batcher: Any = None) -> None:
        contract = package.contract
        metrics = PredictorMetrics(MetricFamilies(CollectorRegistry()), contract, "0")
        self.clock = SystemClock()
        self.batcher = batcher or Batcher(Limits(), self.clock)
        plane = DataPlane(model, InputPolicy(contract.inputs), metrics, self.batcher)
        self.models = Models(Catalogue((Served(plane, NoSink(), package.path),)))

    async def lane(self, content: Callable[[], bytes], headers: dict[str, str]) -> int:
        lane = Lane(
            self.models,
            self.batcher,
            clock=self.clock,
            turns=Turns(self.clock),
            max_body_bytes=10**8,
        )
        route = lane.route(INFER.encode())
        assert route is not None
        client = StandInClient()
        sent = [(name.encode(), value.encode()) for name, value in headers.items()]
        lane.take(Asked(client, route, sent, content()))
        while not client.status:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        return client.status


async def by_handler(handler: Any, content: Callable[[], bytes], headers: dict[str, str]) -> int:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": content(), "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await handler({"method": "POST", "path": INFER, "headers": raw}, receive, send)
    return int(sent[0]["status"])


@pytest.mark.parametrize("name", BAD)
def test_a_refused_request_of_the_lane(package: Package, model: Model, name: str) -> None:
    content, headers, status = BAD[name]

    async def go() -> None:
        bench = Bench(package, model)
        with nothing_is_kept():
            for _ in range(3):
                assert await bench.lane(content, headers) == status
        bench.batcher.close()

    asyncio.run(go())


@pytest.mark.parametrize("name", BAD)
def test_a_refused_request_of_the_handler(make_handler: Callable[..., Any], name: str) -> None:
    content, headers, status = BAD[name]

    async def go() -> None:
        handler = make_handler(max_body_bytes=10**8)
        with nothing_is_kept():
            for _ in range(3):
                assert await by_handler(handler, content, headers) == status

    asyncio.run(go())


class FullBatcher(Batcher):
    """A batcher that has no room: it refuses when a request is to wait, as the real one does."""

    async def run(self, work: Any, deadline: float | None = None, read: float | None = None) -> Any:
        error = OverloadedError("too many requests wait", where="the queue", delay=1.0)
        if error is not None:
            raise error


def test_a_request_that_is_shed(package: Package, model: Model) -> None:
    async def go() -> None:
        bench = Bench(package, model, FullBatcher(Limits(inline_seconds=0.0), SystemClock()))
        with nothing_is_kept():
            for _ in range(3):
                assert await bench.lane(fine, {}) == 503
        bench.batcher.close()

    asyncio.run(go())


class FailingModel:
    """A model that executes nothing."""

    def __init__(self, model: Model) -> None:
        self.contract, self.speed, self.together = model.contract, model.speed, True

    def run(self, feed: Any, outputs: Any) -> Any:
        assert np.asarray(feed["kind"]).size
        raise PermanentError("it fails", where="the model")


@pytest.mark.parametrize("inline", [10.0, 0.0])
def test_a_request_that_fails(package: Package, model: Model, inline: float) -> None:
    async def go() -> None:
        batcher = Batcher(Limits(inline_seconds=inline), SystemClock())
        bench = Bench(package, FailingModel(model), batcher)
        with nothing_is_kept():
            for _ in range(3):
                assert await bench.lane(fine, {}) == 500
        bench.batcher.close()

    asyncio.run(go())
