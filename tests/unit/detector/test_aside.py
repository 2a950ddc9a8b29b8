"""The thread beside the server, and the two bounds of its queue."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from davy.detector.aside import Aside


class Held:
    """Work that waits until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.began = threading.Event()
        self.done: list[str] = []

    def __call__(self, item: str) -> None:
        self.began.set()
        assert self.go.wait(30)
        self.done.append(item)


@pytest.fixture
def held() -> Iterator[Held]:
    work = Held()
    yield work
    work.go.set()


def eventually(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_what_finds_no_room_is_not_taken(held: Held) -> None:
    aside: Aside[str] = Aside("test", held, items=2, size=100)
    aside.start()
    assert aside.offer("in hand", 90)
    assert held.began.wait(10)
    # What is in hand holds no room any more.
    assert aside.offer("first", 60)
    assert not aside.offer("too many bytes", 41)
    assert aside.offer("second", 40)
    assert not aside.offer("too many", 0)
    assert aside.waiting == 2
    held.go.set()
    eventually(lambda: held.done == ["in hand", "first", "second"])
    assert aside.offer("again", 100)
    eventually(lambda: held.done[-1] == "again")
    aside.close()


def test_the_end_waits_for_what_is_in_hand_and_lets_the_rest_go(held: Held) -> None:
    aside: Aside[str] = Aside("test", held, items=9, size=100)
    aside.start()
    aside.offer("in hand", 1)
    assert held.began.wait(10)
    aside.offer("waits", 1)
    threading.Timer(0.1, held.go.set).start()
    aside.close(10)
    assert held.done == ["in hand"]
    assert not aside.offer("late", 1)


def test_work_that_hangs_does_not_hold_up_the_end(held: Held) -> None:
    aside: Aside[str] = Aside("test", held, items=9, size=100)
    aside.start()
    aside.offer("in hand", 1)
    assert held.began.wait(10)
    began = time.monotonic()
    aside.close(0.05)
    assert time.monotonic() - began < 5


def test_it_looks_around_between_items_and_while_there_is_none() -> None:
    looks: list[float] = []
    done: list[str] = []
    aside: Aside[str] = Aside(
        "test", done.append, items=9, size=100, between=lambda: looks.append(1), wake=0.01
    )
    aside.start()
    eventually(lambda: len(looks) > 3)
    aside.offer("item", 1)
    eventually(lambda: done == ["item"])
    aside.close()


def test_one_that_never_began_can_be_ended() -> None:
    Aside[str]("test", lambda item: None, items=1, size=1).close()
