"""What the batcher says that a request will wait is about what it waits, on a slow machine too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from davy.core.clock import ManualClock
from davy.core.errors import OverloadedError
from davy.predictor.admission import Limits, Speed
from davy.predictor.batcher import Batcher
from davy.predictor.work import Work
from davy.protocol.tensors import Array, tensor

# As many rows as the benchmark of serving sends at once.
THREADED = Limits(inline_seconds=-1.0, queue_rows=100_000)
PER_CALL = 0.0002


class TimedModel:
    """Stands in for a model: moves the clock by what it takes, which its speed knows."""

    together = True

    def __init__(self, clock: ManualClock, per_row: float) -> None:
        self._clock = clock
        self._per_row = per_row
        self.speed = Speed()
        for rows in (1, 1000):
            self.speed.observe(rows, PER_CALL + per_row * rows)

    def run(self, feed: Mapping[str, Array], outputs: tuple[str, ...]) -> Any:
        rows = len(feed["x"])
        self._clock.sleep(PER_CALL + self._per_row * rows)
        return (tensor("y", feed["x"]),)


class HeldExecutor(Executor):
    """Stands in for a worker thread that gets a core late: it executes when it is told to."""

    def __init__(self, clock: ManualClock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._held: list[Callable[[], None]] = []
        self.handed = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        self._held.append(lambda: done.set_result(fn(*args, **kwargs)))
        self.handed += 1
        return done

    async def drain(self) -> None:
        """Execute until nothing is handed over any more."""
        await settle()
        while self._held:
            self._clock.sleep(self._seconds)
            self._held.pop(0)()
            await settle()


class Waited:
    """Stands in for the metrics of one request: how long it waited for its hand-over."""

    seconds = 0.0

    def waited(self, seconds: float, requests: int = 1) -> None:
        self.seconds = seconds

    def executed(self, rows: int) -> None: ...


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Bench:
    """A batcher that has learned what a hand-over takes, and a burst of requests."""

    def __init__(self, hand_over: float, per_row: float, limits: Limits = THREADED) -> None:
        self.clock = ManualClock(datetime(2017, 1, 1, tzinfo=UTC))
        self.model = TimedModel(self.clock, per_row)
        self.batcher = Batcher(limits, self.clock)
        self.executor = HeldExecutor(self.clock, hand_over)
        self.batcher._pool = self.executor  # type: ignore[assignment]

    async def ask(self, rows: int) -> tuple[float, float] | None:
        """Return the estimate and the wait, None when refused."""
        metrics: Any = Waited()
        work = Work(self.model, metrics, {"x": np.zeros(rows)}, ("y",), rows)
        estimate = self.batcher._load(self.clock.monotonic()).seconds
        try:
            await self.batcher.run(work)
        except OverloadedError:
            return None
        return estimate, metrics.seconds

    async def learn(self) -> None:
        for _ in range(60):
            one = asyncio.create_task(self.ask(1))
            await self.executor.drain()
            await one
        self.executor.handed = 0

    async def burst(self, sizes: list[int]) -> list[tuple[float, float] | None]:
        await self.learn()
        tasks = [asyncio.create_task(self.ask(rows)) for rows in sizes]
        await self.executor.drain()
        return list(await asyncio.gather(*tasks))


SIZES = {
    "small": [10] * 600,
    "half a round": [100] * 300,
    "more than half a round": [140] * 200,
    "large": [1000] * 64,
    "unequal": [1, 1000, 30, 300, 200, 2, 90, 1000] * 12,
}


@pytest.mark.parametrize("hand_over", [0.0001, 0.01, 0.15])
@pytest.mark.parametrize("per_row", [1e-6, 3e-5, 2e-4])
@pytest.mark.parametrize("name", SIZES)
def test_the_estimate_is_about_the_wait(name: str, per_row: float, hand_over: float) -> None:
    found = asyncio.run(Bench(hand_over, per_row).burst(SIZES[name]))
    let_in = [one for one in found if one is not None]
    # The last of them waited longest; of one alone, what it joins counts more than what it is.
    estimate, wait = (max(one[place] for one in let_in) for place in (0, 1))
    about = hand_over + 0.02
    assert wait <= 2 * estimate + about
    assert estimate <= 2 * wait + about
    # Nobody is refused but for a wait that would be about as long as the bound.
    assert len(let_in) == len(found) or wait > 0.4 * THREADED.max_wait_seconds - about


def test_large_requests_that_are_short_are_handed_over_together() -> None:
    """A hand-over each would take longer than all of their executions."""
    bench = Bench(hand_over=0.05, per_row=1e-6)
    found = asyncio.run(bench.burst([1000] * 64))
    assert None not in found
    # The first goes alone, the others eight at a time.
    assert bench.executor.handed == 1 + 8


def test_a_long_request_is_handed_over_alone() -> None:
    bench = Bench(hand_over=0.0001, per_row=1e-4)
    found = asyncio.run(bench.burst([1000] * 5))
    assert None not in found
    assert bench.executor.handed == 5
