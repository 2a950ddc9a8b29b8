import asyncio
import gc
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from davy.predictor.families import MetricFamilies
from davy.predictor.metrics import PredictorMetrics
from davy.predictor.model import Model
from davy.predictor.payload import Exchange, NoSink, PayloadLog, sampled
from davy.predictor.pseudonymise import Pseudonymiser
from davy.predictor.settings import PredictorSettings
from davy.protocol.events import REQUEST, RESPONSE, PayloadEvent, decode_batch
from davy.protocol.tensors import tensor
from davy.protocol.v2 import Encoded, InferRequest, decode_request, encode_request

NOBODY = Pseudonymiser(frozenset(), b"")


def exchange(number: int = 0, size: int = 2) -> Exchange:
    return Exchange(
        id=f"r{number}",
        time=datetime(2017, 12, 4, tzinfo=UTC),
        request=Encoded(b"q" * size, None),
        response=Encoded(b"a" * size, 1),
    )


class StandInReceiver:
    """Takes posts as the detector does; `answer` says how."""

    def __init__(self, answer: Callable[[], Any] | None = None) -> None:
        self.batches: list[list[PayloadEvent]] = []
        self.answer = answer

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.answer is not None:
            found = self.answer()
            if asyncio.iscoroutine(found):
                await found
            elif found is not None:
                return httpx.Response(found)
        assert request.headers["content-type"] == "application/cloudevents-batch+json"
        batch = decode_batch(request.content)
        if batch:
            self.batches.append(batch)
        return httpx.Response(202)


def test_the_first_post_is_empty(model: Model) -> None:
    sizes = []

    async def receive(request: httpx.Request) -> httpx.Response:
        sizes.append(len(decode_batch(request.content)))
        return httpx.Response(202)

    bench = Bench(model, receive)

    async def go() -> None:
        await bench.log.start()
        assert sizes == [0]
        bench.log.put(exchange())
        await bench.log.close()

    asyncio.run(go())
    assert sizes == [0, 2]
    assert bench.told() == 2


class Bench:
    """A payload log over a stand-in receiver, with what it counted."""

    def __init__(self, model: Model, receiver: Any, **settings: Any) -> None:
        self.registry = CollectorRegistry()
        self.labels = {"model": model.contract.name, "version": model.contract.version}
        options = {
            "payload_url": "http://detector.test/",
            "payload_interval_seconds": 0.01,
            "payload_timeout_seconds": 0.05,
            "payload_flush_seconds": 0.2,
            **settings,
        }
        pseudonymiser = options.pop("pseudonymiser", NOBODY)
        transport = options.pop("transport", None)
        self.log = PayloadLog(
            PredictorSettings(**options),
            service="tiny-service",
            version=model.contract.version,
            metrics=PredictorMetrics(MetricFamilies(self.registry), model.contract, model.identity),
            pseudonymiser=pseudonymiser,
            client=httpx.AsyncClient(transport=transport or httpx.MockTransport(receiver)),
        )

    def told(self) -> float:
        return self.registry.get_sample_value("davy_payload_events_total", self.labels) or 0

    def dropped(self) -> dict[str, float]:
        return {
            sample.labels["reason"]: sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == "davy_payload_events_dropped_total" and sample.value
        }


class StandInNetwork(httpx.AsyncBaseTransport):
    """Takes a body in parts, as a socket does, and answers; or waits for ever."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.hangs = hangs
        self.sizes: list[int] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.hangs:
            await asyncio.sleep(60)
        assert isinstance(request.stream, httpx.AsyncByteStream)
        self.sizes.append(sum([len(part) async for part in request.stream]))
        assert request.headers["content-length"] == str(self.sizes[-1])
        assert "transfer-encoding" not in request.headers
        return httpx.Response(202, stream=httpx.ByteStream(b""))


@pytest.mark.parametrize("hangs", [False, True])
def test_what_was_posted_is_let_go_at_once(model: Model, *, hangs: bool) -> None:
    network = StandInNetwork(hangs=hangs)
    bench = Bench(model, None, transport=network, payload_batch=1)
    large = 3_000_000

    def kept() -> int:
        texts = {
            id(found): len(found)
            for holder in gc.get_objects()
            for found in gc.get_referents(holder)
            if type(found) is bytes and len(found) >= large
        }
        return sum(texts.values())

    async def go() -> None:
        await bench.log.start()
        gc.collect()
        # The collector hardly ever runs in a predictor.
        gc.disable()
        before = kept()
        try:
            for number in range(3):
                bench.log.put(exchange(number, large))
                while bench.told() + sum(bench.dropped().values()) < 2 * (number + 1):
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.01)
            assert kept() == before
        finally:
            gc.enable()
        await bench.log.close()

    asyncio.run(go())
    assert hangs or [size > 2 * large for size in network.sizes] == [False, True, True, True]


async def pause(seconds: float) -> None:
    await asyncio.sleep(seconds)


def test_both_events_of_a_request_are_told(model: Model) -> None:
    receiver = StandInReceiver()
    bench = Bench(model, receiver, service_namespace="shop", payload_sample_rate=0.999)

    async def go() -> None:
        await bench.log.start()
        bench.log.put(exchange(1))
        await bench.log.close()

    asyncio.run(go())
    [[request, response]] = receiver.batches
    assert (request.type, response.type) == (REQUEST, RESPONSE)
    assert (request.id, response.id) == ("r1", "r1")
    assert (request.body, request.header_length) == (b"qq", None)
    assert (response.body, response.header_length) == (b"aa", 1)
    assert {request.version, response.version} == {model.contract.version}
    assert (request.service, request.namespace) == ("tiny-service", "shop")
    assert request.sample_rate == 0.999
    assert request.time == exchange().time
    assert (bench.told(), bench.dropped()) == (2, {})


def test_batches_are_bounded_and_nothing_is_lost_at_the_end(model: Model) -> None:
    receiver = StandInReceiver()
    bench = Bench(model, receiver, payload_batch=10)

    async def go() -> None:
        await bench.log.start()
        for number in range(95):
            bench.log.put(exchange(number))
        await bench.log.close()

    asyncio.run(go())
    assert max(map(len, receiver.batches)) == 20
    ids = [event.id for batch in receiver.batches for event in batch if event.type == REQUEST]
    assert ids == [f"r{number}" for number in range(95)]
    assert bench.told() == 190


def test_batches_are_bounded_in_bytes_too(model: Model) -> None:
    receiver = StandInReceiver()
    bench = Bench(model, receiver, payload_batch_bytes=100)

    async def go() -> None:
        for number, size in enumerate([20, 20, 20, 500, 20]):
            bench.log.put(exchange(number, size=size))
        await bench.log.start()
        await bench.log.close()

    asyncio.run(go())
    found = [[event.id for event in batch[::2]] for batch in receiver.batches]
    assert found == [["r0", "r1"], ["r2"], ["r3"], ["r4"]]


def test_a_full_queue_drops_at_once(model: Model) -> None:
    receiver = StandInReceiver()
    bench = Bench(model, receiver, payload_queue=3)

    async def go() -> None:
        for number in range(5):
            bench.log.put(exchange(number))
        await bench.log.start()
        await bench.log.close()

    asyncio.run(go())
    assert bench.dropped() == {"queue_full": 4}
    assert bench.told() == 6


def test_the_queue_is_bounded_in_bytes_too(model: Model) -> None:
    bench = Bench(model, StandInReceiver(), payload_queue_bytes=250)

    async def go() -> None:
        for number in range(3):
            bench.log.put(exchange(number, size=50))
        await bench.log.start()
        await asyncio.sleep(0.1)
        # What was posted makes room again.
        bench.log.put(exchange(4, size=100))
        await bench.log.close()

    asyncio.run(go())
    assert bench.dropped() == {"queue_full": 2}
    assert bench.told() == 6


def _refuse() -> None:
    raise httpx.ConnectError("nobody listens")


def _break() -> None:
    raise RuntimeError("surprise")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda: pause(10), "timeout"),
        (_refuse, "refused"),
        (_break, "error"),
        (lambda: 500, "error"),
        (lambda: 400, "error"),
    ],
)
def test_a_receiver_that_fails_is_counted_and_tried_again(
    model: Model, answer: Callable[[], Any], reason: str
) -> None:
    receiver = StandInReceiver(answer)
    bench = Bench(model, receiver)

    async def go() -> None:
        await bench.log.start()
        bench.log.put(exchange(1))
        await asyncio.sleep(0.15)
        receiver.answer = None
        bench.log.put(exchange(2))
        await bench.log.close()

    asyncio.run(go())
    assert bench.dropped() == {reason: 2}
    assert [event.id for event in receiver.batches[0]] == ["r2", "r2"]


def test_a_hung_receiver_holds_up_neither_requests_nor_the_end(model: Model) -> None:
    bench = Bench(
        model,
        StandInReceiver(lambda: pause(60)),
        payload_timeout_seconds=30,
        payload_flush_seconds=0.1,
        payload_queue=10,
        payload_batch=1,
    )

    async def go() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        await bench.log.start()
        bench.log.put(exchange(0))
        await asyncio.sleep(0.05)
        started = loop.time()
        for number in range(1000):
            bench.log.put(exchange(number))
        put = loop.time() - started
        await bench.log.close()
        return put, loop.time() - started

    put, whole = asyncio.run(go())
    assert put < 0.5
    assert whole < 5
    # One was being posted, ten waited, the others found no place.
    assert bench.dropped() == {"queue_full": 990 * 2, "timeout": 11 * 2}
    assert bench.told() == 0


def test_after_the_end_everything_is_dropped(model: Model) -> None:
    bench = Bench(model, StandInReceiver())

    async def go() -> None:
        await bench.log.start()
        await bench.log.close()
        bench.log.put(exchange())

    asyncio.run(go())
    assert bench.dropped() == {"queue_full": 2}


def test_values_of_persons_leave_as_pseudonyms(model: Model) -> None:
    receiver = StandInReceiver()
    pseudonymiser = Pseudonymiser(frozenset({"household"}), b"a key of sixteen")
    bench = Bench(model, receiver, pseudonymiser=pseudonymiser)
    household = tensor("household", np.array([b"1167", b"12", b"1167"], object))
    encoded = encode_request(InferRequest((household,)))

    async def go() -> None:
        await bench.log.start()
        now = datetime(2017, 12, 4, tzinfo=UTC)
        answer = Encoded(b'{"outputs":[]}', None)
        bench.log.put(Exchange("r1", now, encoded, answer))
        await bench.log.close()

    asyncio.run(go())
    body = receiver.batches[0][0].body
    assert b"1167" not in body
    first, second, third = decode_request(body).inputs[0].data.tolist()
    assert first == third != second
    assert len(first) == 64


def test_the_sample_is_the_same_everywhere_and_of_the_asked_size() -> None:
    ids = [f"request-{number}" for number in range(20_000)]
    tenth = {name for name in ids if sampled(name, 0.1)}
    fifth = {name for name in ids if sampled(name, 0.2)}
    assert tenth < fifth
    assert abs(len(tenth) - 2000) < 5 * (20_000 * 0.1 * 0.9) ** 0.5
    assert all(sampled(name, 1.0) for name in ids)


def test_off_wants_nothing() -> None:
    sink = NoSink()
    assert not sink.wants("r1")
    sink.put(exchange())
