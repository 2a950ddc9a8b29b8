import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from davy.core.clock import Clock, ManualClock, SystemClock
from davy.core.errors import DeadlineError, OverloadedError, PermanentError
from davy.predictor.admission import Limits, Speed
from davy.predictor.batcher import ROUNDS, Batcher, execute
from davy.predictor.families import MetricFamilies
from davy.predictor.metrics import PredictorMetrics
from davy.predictor.model import Model
from davy.predictor.turns import Turns
from davy.predictor.work import Work
from davy.protocol.tensors import Array, Tensor, tensor

# Nothing is short enough for the event loop: every request is handed to the worker.
THREADED = Limits(batch_rows=64, inline_seconds=-1.0, batch_wait_seconds=10.0)


def columns(rows: int, kind: int = 1, amount: float = 10.0) -> dict[str, Array]:
    return {
        "kind": np.full(rows, kind),
        "amount": np.full(rows, amount, np.float32),
        "visits": np.ones(rows, np.float32),
        "channel": np.full(rows, 2),
    }


class HeldModel:
    """Stands in for a slow model: the real one, which waits in the worker until it is released."""

    def __init__(self, model: Model, seconds: float = 0.0) -> None:
        self.released = threading.Event()
        self.entered = threading.Event()
        self.calls: list[int] = []
        self.speed = Speed()
        if seconds:
            self.speed.observe(1, seconds)
        self.together = model.together
        self._model = model

    def run(self, feed: Mapping[str, Array], outputs: tuple[str, ...]) -> tuple[Tensor, ...]:
        self.entered.set()
        assert self.released.wait(30)
        self.calls.append(len(feed["kind"]))
        return self._model.run(feed, outputs)


@pytest.fixture
def metrics(model: Model, registry: CollectorRegistry) -> PredictorMetrics:
    return PredictorMetrics(MetricFamilies(registry), model.contract, model.identity)


@pytest.fixture
def make_work(metrics: PredictorMetrics) -> Callable[..., Work]:
    def make(model: Any, feed: dict[str, Array]) -> Work:
        return Work(model, metrics, feed, ("score",), len(feed["kind"]))

    return make


def run(
    work: Callable[[Batcher], Any], limits: Limits = THREADED, clock: Clock | None = None
) -> Any:
    async def go() -> Any:
        batcher = Batcher(limits, clock or SystemClock())
        try:
            return await work(batcher)
        finally:
            batcher.close()

    return asyncio.run(go())


async def held_up(batcher: Batcher, held: HeldModel, work: Work) -> asyncio.Task[Any]:
    """Start a request and return once the worker executes it."""
    task = asyncio.create_task(batcher.run(work))
    await asyncio.to_thread(held.entered.wait, 30)
    return task


def test_a_short_request_that_is_alone_is_executed_in_the_loop(
    model: Model, make_work: Callable[..., Work], registry: CollectorRegistry
) -> None:
    held = HeldModel(model)
    held.released.set()
    threads: list[int] = []
    inner = held.run

    def spy(*arguments: Any) -> tuple[Tensor, ...]:
        threads.append(threading.get_ident())
        return inner(*arguments)

    held.run = spy  # type: ignore[method-assign]
    [score] = run(lambda batcher: batcher.run(make_work(held, columns(3))), Limits())
    assert score.shape == (3,)
    assert threads == [threading.get_ident()]
    labels = {"model": "tiny", "version": model.contract.version}
    assert registry.get_sample_value("davy_batch_rows_sum", labels) == 3
    assert registry.get_sample_value("davy_queue_seconds_count", labels) == 1
    assert registry.get_sample_value("davy_queue_seconds_sum", labels) == 0


@pytest.mark.parametrize("limits", [Limits(), THREADED])
def test_it_has_waited_since_it_was_read(
    model: Model,
    make_work: Callable[..., Work],
    registry: CollectorRegistry,
    limits: Limits,
) -> None:
    clock = ManualClock(datetime(2017, 1, 1, tzinfo=UTC))
    read = clock.monotonic()
    clock.sleep(0.25)
    run(lambda batcher: batcher.run(make_work(model, columns(3)), None, read), limits, clock)
    labels = {"model": "tiny", "version": model.contract.version}
    assert registry.get_sample_value("davy_queue_seconds_count", labels) == 1
    assert registry.get_sample_value("davy_queue_seconds_sum", labels) == pytest.approx(0.25)


def test_what_comes_meanwhile_is_merged_and_answered_as_if_it_had_not_been(
    model: Model, make_work: Callable[..., Work], registry: CollectorRegistry
) -> None:
    held = HeldModel(model)
    feeds = [columns(rows, rows % 6, 7.0 * rows) for rows in (1, 5, 2, 8)]

    async def go(batcher: Batcher) -> list[Any]:
        first = await held_up(batcher, held, make_work(held, columns(4)))
        others = [asyncio.create_task(batcher.run(make_work(held, feed))) for feed in feeds]
        await asyncio.sleep(0.01)
        held.released.set()
        await first
        return await asyncio.gather(*others)

    answers = run(go)
    assert held.calls == [4, 16]
    for feed, [score] in zip(feeds, answers, strict=True):
        [alone] = model.run(feed, ("score",))
        assert score.shape == alone.shape
        np.testing.assert_allclose(score.data, alone.data, rtol=model.contract.tolerance)
    labels = {"model": "tiny", "version": model.contract.version}
    assert registry.get_sample_value("davy_batch_rows_count", labels) == 2
    assert registry.get_sample_value("davy_batch_rows_sum", labels) == 20
    assert registry.get_sample_value("davy_queue_seconds_count", labels) == 5
    waited = registry.get_sample_value("davy_queue_seconds_sum", labels)
    assert waited is not None
    assert waited >= 4 * 0.009


def test_one_that_cannot_be_executed_fails_alone(
    model: Model, make_work: Callable[..., Work]
) -> None:
    works = [make_work(model, columns(2, kind)) for kind in (0, 77, 5)]
    executed = execute(works, SystemClock())
    good, bad, also_good = executed.answers
    assert isinstance(bad, PermanentError)
    assert "could not execute" in str(bad)
    for found, feed in ((good, works[0].feed), (also_good, works[2].feed)):
        assert not isinstance(found, Exception)
        np.testing.assert_array_equal(found[0].data, model.run(feed, ("score",))[0].data)
    assert [rows for rows, _ in executed.runs] == [2, 2]


def test_requests_for_different_outputs_are_merged_too(metrics: PredictorMetrics) -> None:
    class TwoOutputs:
        """Stands in for a model with two outputs."""

        asked: tuple[str, ...] = ()

        def run(self, feed: Mapping[str, Array], outputs: tuple[str, ...]) -> Any:
            self.asked = outputs
            return tuple(tensor(name, feed["x"] * {"a": 1, "b": 10}[name]) for name in outputs)

    both: Any = TwoOutputs()
    works = [
        Work(both, metrics, {"x": np.array([n, n])}, outputs, 2)
        for n, outputs in ((1, ("b",)), (2, ("a", "b")), (3, ("a",)))
    ]
    executed = execute(works, SystemClock())
    assert both.asked == ("b", "a")
    found = [[(t.name, t.data.tolist()) for t in a] for a in executed.answers]  # type: ignore[union-attr]
    assert found == [[("b", [10, 10])], [("a", [2, 2]), ("b", [20, 20])], [("a", [3, 3])]]


def test_an_output_that_has_not_a_row_for_each_row_is_not_split(
    metrics: PredictorMetrics,
) -> None:
    class OneAnswer:
        """Stands in for a model that answers once, whatever the rows."""

        calls = 0

        def run(self, feed: Mapping[str, Array], outputs: tuple[str, ...]) -> Any:
            self.calls += 1
            return (tensor("sum", np.array([feed["x"].sum()])),)

    one: Any = OneAnswer()
    works = [Work(one, metrics, {"x": np.array([n, n])}, ("sum",), 2) for n in (1, 2)]
    executed = execute(works, SystemClock())
    assert [a[0].data.tolist() for a in executed.answers] == [[2], [4]]  # type: ignore[index]


def test_a_model_whose_rows_depend_on_each_other_is_not_batched(
    model: Model, make_work: Callable[..., Work]
) -> None:
    held = HeldModel(model)
    held.together = False

    async def go(batcher: Batcher) -> None:
        first = await held_up(batcher, held, make_work(held, columns(1)))
        others = [batcher.run(make_work(held, columns(rows))) for rows in (2, 3)]
        tasks = [asyncio.create_task(other) for other in others]
        await asyncio.sleep(0)
        held.released.set()
        await asyncio.gather(first, *tasks)

    run(go)
    assert held.calls == [1, 2, 3]


def test_a_request_past_its_deadline_is_not_executed(
    model: Model, make_work: Callable[..., Work]
) -> None:
    clock = ManualClock(datetime(2017, 1, 1, tzinfo=UTC))
    held = HeldModel(model)

    async def go(batcher: Batcher) -> None:
        first = await held_up(batcher, held, make_work(held, columns(1)))
        late = asyncio.create_task(batcher.run(make_work(held, columns(2)), deadline=5.0))
        in_time = asyncio.create_task(batcher.run(make_work(held, columns(3)), deadline=50.0))
        await asyncio.sleep(0)
        clock.sleep(10)
        held.released.set()
        await first
        with pytest.raises(DeadlineError):
            await late
        await in_time

    run(go, clock=clock)
    assert held.calls == [1, 3]


def test_a_request_that_is_cancelled_while_it_waits_is_not_executed(
    model: Model, make_work: Callable[..., Work]
) -> None:
    held = HeldModel(model)

    async def go(batcher: Batcher) -> None:
        first = await held_up(batcher, held, make_work(held, columns(1)))
        gone = asyncio.create_task(batcher.run(make_work(held, columns(2))))
        stays = asyncio.create_task(batcher.run(make_work(held, columns(3))))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        held.released.set()
        await asyncio.gather(first, stays)

    run(go)
    assert held.calls == [1, 3]


def test_overload_is_refused_at_once_and_nothing_is_lost(
    model: Model, make_work: Callable[..., Work]
) -> None:
    clock = ManualClock(datetime(2017, 1, 1, tzinfo=UTC))
    # A second a request, and nothing is merged: two may wait behind the one that runs.
    held = HeldModel(model, seconds=1.0)
    held.together = False
    limits = replace(THREADED, batch_rows=1, max_wait_seconds=2.5)

    async def go(batcher: Batcher) -> list[Any]:
        first = await held_up(batcher, held, make_work(held, columns(1)))
        assert batcher.refusal(Turns(clock)) is None
        tasks = [asyncio.create_task(batcher.run(make_work(held, columns(1)))) for _ in range(6)]
        await asyncio.sleep(0)
        refused = [task for task in tasks if task.done()]
        assert len(refused) == 4
        assert batcher.refusal(Turns(clock)) is not None
        held.released.set()
        answers = await asyncio.gather(first, *tasks, return_exceptions=True)
        assert batcher.refusal(Turns(clock)) is None
        return answers

    answers = run(go, limits, clock)
    refusals = [a for a in answers if isinstance(a, OverloadedError)]
    assert len(refusals) == 4
    assert all(error.delay == 3 for error in refusals)
    assert len([a for a in answers if isinstance(a, tuple)]) == 3
    assert held.calls == [1, 1, 1]


def test_the_queue_is_bounded_by_rows(model: Model, make_work: Callable[..., Work]) -> None:
    held = HeldModel(model)
    limits = replace(THREADED, queue_rows=10)

    async def go(batcher: Batcher) -> None:
        first = await held_up(batcher, held, make_work(held, columns(1)))
        # Nothing waits yet: any size may.
        large = asyncio.create_task(batcher.run(make_work(held, columns(50))))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="50 rows wait, 10 may"):
            await batcher.run(make_work(held, columns(1)))
        held.released.set()
        await asyncio.gather(first, large)

    run(go, limits)


class SlowHandOver(ThreadPoolExecutor):
    """Stands in for a machine on which a thread waits for a core; counts what it is handed."""

    def __init__(self, seconds: float) -> None:
        super().__init__(1)
        self.handed = 0
        self._seconds = seconds

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        self.handed += 1

        def late() -> Any:
            time.sleep(self._seconds)
            return fn(*args, **kwargs)

        return super().submit(late)


class NoThread(ThreadPoolExecutor):
    """Stands in for a process that may have no more threads."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("can't start new thread")


def test_where_no_thread_can_be_had_nobody_waits_for_one(
    model: Model, make_work: Callable[..., Work]
) -> None:
    async def go(batcher: Batcher) -> None:
        pool, batcher._pool = batcher._pool, NoThread(1)
        for _ in range(2):
            with pytest.raises(RuntimeError):
                await asyncio.wait_for(batcher.run(make_work(model, columns(40))), 30)
        batcher._pool = pool
        [score] = await batcher.run(make_work(model, columns(40)))
        assert len(score.data) == 40

    run(go)


def test_what_waits_is_handed_over_several_rounds_at_once(
    model: Model, make_work: Callable[..., Work]
) -> None:
    works = [make_work(model, columns(40)) for _ in range(1 + 2 * ROUNDS)]

    async def go(batcher: Batcher) -> int:
        batcher._pool = pool = SlowHandOver(0.02)
        answers = await asyncio.gather(*map(batcher.run, works))
        assert all(len(score.data) == 40 for [score] in answers)
        return pool.handed

    # Each is a round of its own: of 64 rows that may go together, 40 are one request.
    assert run(go) == 3


def test_what_a_hand_over_takes_counts_as_a_wait(
    model: Model, make_work: Callable[..., Work]
) -> None:
    limits = replace(THREADED, max_wait_seconds=0.3)

    async def go(batcher: Batcher) -> None:
        batcher._pool = SlowHandOver(0.1)
        for _ in range(15):
            await batcher.run(make_work(model, columns(40)))
        # Some 0.1 s each: three may be ahead of a request, and eight rounds go in one.
        waiting = [
            asyncio.create_task(batcher.run(make_work(model, columns(64))))
            for _ in range(6 * ROUNDS)
        ]
        done = await asyncio.gather(*waiting, return_exceptions=True)
        refused = [one for one in done if isinstance(one, OverloadedError)]
        assert 0 < len(refused) < len(done)
        assert len(refused) + sum(isinstance(one, tuple) for one in done) == len(done)

    run(go, limits)
