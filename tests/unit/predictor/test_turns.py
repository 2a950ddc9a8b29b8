"""Turns of the event loop, followed by a clock that only the requests move."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import pytest

from davy.core.clock import ManualClock
from davy.predictor.turns import Turns

Begin = tuple[float, float]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2017, 1, 1, tzinfo=UTC))


def begun(turns: Turns, clock: ManualClock, seconds: float) -> Begin:
    """Begin a request that holds the loop for `seconds`; return what was told of it."""
    told = (turns.began(), turns.earliest)
    clock.sleep(seconds)
    return told


def run(go: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(go())


def test_those_of_one_turn_were_there_when_it_began(clock: ManualClock) -> None:
    async def go() -> list[Begin]:
        turns = Turns(clock)
        told: list[Begin] = []
        loop = asyncio.get_running_loop()
        for _ in range(3):
            loop.call_soon(lambda: told.append(begun(turns, clock, 1.0)))
        await asyncio.sleep(0.01)
        return told

    assert run(go) == [(0.0, 0.0)] * 3


def test_a_turn_that_follows_had_to_wait_for_the_one_before(clock: ManualClock) -> None:
    async def go() -> list[Begin]:
        turns = Turns(clock)
        told: list[Begin] = []
        loop = asyncio.get_running_loop()

        def turn(number: int) -> None:
            told.append(begun(turns, clock, 1.0))
            # As a server's: what is read meanwhile is begun in the next turn.
            if number < 4:
                loop.call_soon(turn, number + 1)

        loop.call_soon(turn, 1)
        await asyncio.sleep(0.01)
        return told

    assert run(go) == [(0.0, 0.0), (1.0, 0.0), (2.0, 1.0), (3.0, 2.0)]


def test_after_a_rest_nobody_had_to_wait(clock: ManualClock) -> None:
    async def go() -> list[Begin]:
        turns = Turns(clock)
        told = []
        for _ in range(3):
            told.append(begun(turns, clock, 1.0))
            for _ in range(3):
                await asyncio.sleep(0)
            clock.sleep(10.0)
        return told

    assert run(go) == [(0.0, 0.0), (11.0, 11.0), (22.0, 22.0)]


def test_what_is_asked_twice_is_told_twice(clock: ManualClock) -> None:
    async def go() -> None:
        turns = Turns(clock)
        assert turns.earliest == 0.0
        clock.sleep(1.0)
        assert (turns.began(), turns.earliest) == (0.0, 0.0)

    run(go)
