"""Which intervals began after the weight was there, though samples are timed by another clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from davy.rollout.counters import Reading, read_interval
from davy.rollout.series import REQUESTS, Arms, Sample, Series, SeriesKey
from davy.rollout.state import Observation, Phase, State
from davy.rollout.verdict import Counts

ARMS = Arms(stable="v1", canary="v2")
START = datetime(2017, 1, 2, tzinfo=UTC)
LOOKS, INTERVAL = 8, 10.0


def reading(state: State, now: float, *, skew: float, scrape: float, phase: float) -> Reading:
    """What a look reads from a Prometheus whose clock is ahead by `skew`."""
    found = []
    for number, (version, pod) in enumerate((("v1", "a"), ("v1", "b"), ("v2", "c"))):
        first = START.timestamp() - 20 * scrape + (phase + 1.3 * number) % scrape
        times = [first + scrape * count for count in range(200)]
        samples = tuple(Sample(at + skew, 10.0 * n) for n, at in enumerate(times) if at <= now)
        found.append(Series(SeriesKey(REQUESTS, version, pod, "ok"), samples))
    return read_interval(
        state.cursor,
        found,
        arms=ARMS,
        indicators=("errors",),
        objective=0.1,
        now=now,
        stale_after=60,
    )


def begins(*, skew: float, scrape: float, phase: float, took: float) -> list[float]:
    """When, by the engine's clock, the intervals began that count as under the new weight."""
    state, begun, honoured = State(), [], None
    for look in range(LOOKS):
        now = START.timestamp() + INTERVAL * look
        found = reading(state, now, skew=skew, scrape=scrape, phase=phase)
        before = state.step_requests
        seen = Observation(
            weight=state.weight,
            counts=found.counts,
            start=found.start,
            end=found.end,
            first=found.first,
            honoured=honoured,
            cursor=found.cursor,
        )
        state = state.with_observation(seen, START + timedelta(seconds=INTERVAL * look))
        if state.step_requests > before:
            assert found.start is not None
            begun.append(found.start - skew)
        if look == 1:
            state = state.with_weight(Phase.PROGRESSING, step=0, weight=5)
            honoured = now + took
    return begun


@pytest.mark.parametrize("skew", [-5.0, 0.0, 5.0])
@pytest.mark.parametrize("took", [0.2, 4.0, 9.9])
def test_no_interval_counts_that_began_before_the_weight(skew: float, took: float) -> None:
    begun = begins(skew=skew, scrape=4.0, phase=0.0, took=took)
    assert begun, "none counts"
    assert min(begun) >= START.timestamp() + INTERVAL + took


@settings(max_examples=200, deadline=None)
@given(
    st.floats(-30, 30),
    st.floats(1.0, 15.0),
    st.floats(0, 15),
    st.floats(0.0, INTERVAL, exclude_max=True),
)
def test_skew_changes_nothing(skew: float, scrape: float, phase: float, took: float) -> None:
    begun = begins(skew=skew, scrape=scrape, phase=phase, took=took)
    assert all(at >= START.timestamp() + INTERVAL + took - 1e-3 for at in begun)
    true = begins(skew=0.0, scrape=scrape, phase=phase, took=took)
    assert begun == pytest.approx(true, abs=1e-3)


def test_where_scrapes_are_close_no_more_than_the_mixed_interval_is_lost() -> None:
    begun = begins(skew=5.0, scrape=1.0, phase=0.0, took=0.5)
    # The third look's interval began before the weight; the fourth's is the first to count.
    assert len(begun) == LOOKS - 3


def test_a_weight_that_a_look_finds_counts_from_the_next_samples_on() -> None:
    counts = {"errors": Counts(10, 0, 5, 0)}
    state = State(phase=Phase.PROGRESSING, step=0, weight=5)
    found = []
    for look in range(4):
        now = START + timedelta(seconds=10 * look)
        at = now.timestamp() + 5  # the samples' clock is ahead
        seen = Observation(weight=5, counts=counts, start=at - 12, end=at - 2, first=at - 9)
        after = state.with_observation(seen, now)
        found.append(after.step_requests - state.step_requests)
        state = after
    assert found == [0, 0, 5, 5]


def test_a_look_without_new_samples_leaves_it_open_where_the_weight_begins() -> None:
    state = State(phase=Phase.PROGRESSING, step=0, weight=5)
    silent = Observation(weight=5, start=START.timestamp() - 3)
    for look in range(3):
        state = state.with_observation(silent, START + timedelta(seconds=10 * look))
    assert state.honoured_since == START
    assert state.weight_from is None
