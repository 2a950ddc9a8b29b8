"""Leader election: who takes a Lease when, and that two never act at once."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest

from davy.core.clock import ManualClock
from davy.core.errors import TemporaryError
from davy.rollout.operator.election import (
    DURATION_SECONDS,
    RENEW_DEADLINE_SECONDS,
    RETRY_SECONDS,
    Election,
    Lease,
    move,
)


@dataclass
class LeaseInMemory:
    """A Lease that refuses a stale write, as an API server does."""

    kept: Lease | None = None
    down: bool = False
    writes: list[str] = field(default_factory=list)

    def read(self) -> Lease | None:
        if self.down:
            raise TemporaryError("no answer")
        return self.kept

    def write(self, holder: str, before: Lease | None) -> Lease:
        if self.down or before != self.kept:
            raise TemporaryError("was changed since it was read")
        number = len(self.writes) + 1
        self.kept = Lease(holder, renewed=str(number), transitions=0, version=str(number))
        self.writes.append(holder)
        return self.kept


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2017, 1, 1, tzinfo=UTC))


def test_the_first_one_leads_and_the_other_waits(clock: ManualClock) -> None:
    lease = LeaseInMemory()
    one, other = Election(lease, "one", clock), Election(lease, "other", clock)
    assert one.step()
    assert not other.step()
    assert (one.leading, other.leading) == (True, False)


def test_one_that_renews_keeps_it(clock: ManualClock) -> None:
    lease = LeaseInMemory()
    one, other = Election(lease, "one", clock), Election(lease, "other", clock)
    for _ in range(100):
        assert one.step()
        assert not other.step()
        clock.sleep(RETRY_SECONDS)
    assert set(lease.writes) == {"one"}


def test_of_one_that_was_killed_the_other_takes_over_and_never_before_it_had_to_stop(
    clock: ManualClock,
) -> None:
    lease = LeaseInMemory()
    one, other = Election(lease, "one", clock), Election(lease, "other", clock)
    one.step()
    waited = 0.0
    while not other.step():
        assert not (one.leading and other.leading)
        clock.sleep(RETRY_SECONDS)
        waited += RETRY_SECONDS
    assert not one.leading
    assert DURATION_SECONDS <= waited <= DURATION_SECONDS + 2 * RETRY_SECONDS
    assert not one.step(), "the Lease is the other's now"


def test_one_that_cannot_renew_stops_before_another_may_take_it(clock: ManualClock) -> None:
    lease = LeaseInMemory()
    one = Election(lease, "one", clock)
    one.step()
    lease.down = True
    clock.sleep(RENEW_DEADLINE_SECONDS - 0.1)
    assert one.step(), "it still has time"
    clock.sleep(0.1)
    assert not one.step()
    assert not one.reached
    assert RENEW_DEADLINE_SECONDS < DURATION_SECONDS


def test_of_two_that_take_it_at_once_one_gets_it(clock: ManualClock) -> None:
    lease = LeaseInMemory()
    one = Election(lease, "one", clock)

    class Slow(LeaseInMemory):
        def write(self, holder: str, before: Lease | None) -> Lease:
            one.step()
            return lease.write(holder, before)

    other = Election(Slow(), "other", clock)
    assert not other.step()
    assert one.leading


def test_one_that_ends_lets_it_go_at_once(clock: ManualClock) -> None:
    lease = LeaseInMemory()
    one, other = Election(lease, "one", clock), Election(lease, "other", clock)
    one.step()
    one.release()
    assert not one.leading
    assert other.step()


def test_one_that_does_not_hold_it_lets_nothing_go(clock: ManualClock) -> None:
    lease = LeaseInMemory()
    one, other = Election(lease, "one", clock), Election(lease, "other", clock)
    one.step()
    other.step()
    other.release()
    assert lease.writes == ["one"]


def test_a_longer_duration_of_the_holder_is_kept_to() -> None:
    lease = Lease("one", renewed="", transitions=0, version="1", duration=60.0)
    assert move(lease, "other", 59.0) == "wait"
    assert move(lease, "other", 60.0) == "take"
    assert move(replace(lease, holder=""), "other", 0.0) == "take"


def test_it_returns_when_the_lease_is_lost(clock: ManualClock) -> None:
    lease, stop, steps = LeaseInMemory(), threading.Event(), []
    one = Election(lease, "one", clock)

    def step() -> None:
        steps.append(one.leading)
        if len(steps) == 2:
            lease.kept = Lease("other", renewed="9", transitions=1, version="9")
        stop.wait(0)

    one.lead(_Hasty(stop), lambda: None, step)
    assert steps == [True, True, False]
    assert lease.kept is not None
    assert lease.kept.holder == "other"


class _Hasty(threading.Event):
    """An event whose wait takes no time."""

    def __init__(self, event: threading.Event) -> None:
        super().__init__()
        self._event = event

    def wait(self, timeout: float | None = None) -> bool:
        return self._event.is_set()
