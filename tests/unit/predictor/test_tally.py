"""Counts between two hand-overs: none is lost, none is counted twice."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram

from davy.predictor import tally
from davy.predictor.tally import Tallies

AMOUNTS = (0.05, 0.1, 0.11, 1.0, 7.0, 0.0)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def tallies(registry: CollectorRegistry) -> Tallies:
    made = Tallies()
    registry.register(made)
    return made


def test_a_scrape_hands_over_first(registry: CollectorRegistry, tallies: Tallies) -> None:
    counted = tallies.counter(Counter("c", "", registry=registry))

    async def count() -> None:
        counted.inc()
        counted.inc(4)
        assert registry.get_sample_value("c_total") == 5
        assert registry.get_sample_value("c_total") == 5

    asyncio.run(count())


def test_without_a_scrape_it_hands_over_after_a_while(
    registry: CollectorRegistry, tallies: Tallies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tally, "DELAY_SECONDS", 0.01)
    child = Counter("c", "", registry=registry)
    counted = tallies.counter(child)

    async def count() -> list[float]:
        seen = []
        for _ in range(2):
            counted.inc()
            seen.append(child._value.get())
            await asyncio.sleep(0.05)
            seen.append(child._value.get())
        return seen

    assert asyncio.run(count()) == [0, 1, 1, 2]


def test_what_an_event_loop_left_behind_is_handed_over_at_the_next_scrape(
    registry: CollectorRegistry, tallies: Tallies
) -> None:
    child = Counter("c", "", registry=registry)
    counted = tallies.counter(child)

    async def count() -> None:
        counted.inc()

    asyncio.run(count())
    assert child._value.get() == 0
    counted.inc()
    assert registry.get_sample_value("c_total") == 2
    counted.inc()
    assert child._value.get() == 3


def test_a_histogram_gets_what_it_would_have_observed_itself(
    registry: CollectorRegistry, tallies: Tallies
) -> None:
    buckets = (0.1, 1.0)
    counted = tallies.histogram(Histogram("ours", "", registry=registry, buckets=buckets))
    itself = Histogram("itself", "", registry=registry, buckets=buckets)

    async def observe() -> None:
        for amount in AMOUNTS:
            counted.observe(amount)
            itself.observe(amount)

    for _ in range(2):
        asyncio.run(observe())
        for bound in ("0.1", "1.0", "+Inf"):
            labels = {"le": bound}
            ours = registry.get_sample_value("ours_bucket", labels)
            assert ours == registry.get_sample_value("itself_bucket", labels)
        total = registry.get_sample_value("itself_sum")
        assert registry.get_sample_value("ours_sum") == pytest.approx(total)
        assert registry.get_sample_value("ours_count") == registry.get_sample_value("itself_count")


def test_a_child_has_one_tally_however_often_it_is_asked_for(
    registry: CollectorRegistry, tallies: Tallies
) -> None:
    """A package that is loaded again binds the same children again."""
    family = Counter("c", "", ["model"], registry=registry)
    histogram = Histogram("h", "", ["model"], registry=registry, buckets=(0.1, 1.0))
    first, again = (tallies.counter(family.labels("tiny")) for _ in range(2))
    assert again is first
    assert tallies.counter(family.labels("other")) is not first
    one, same = (tallies.histogram(histogram.labels("tiny")) for _ in range(2))
    assert same is one

    async def count() -> None:
        first.inc()
        again.inc(2)

    asyncio.run(count())
    assert registry.get_sample_value("c_total", {"model": "tiny"}) == 3
