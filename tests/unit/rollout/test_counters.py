"""Counts from raw counters: baselines, resets, new pods, holes, staleness."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from davy.rollout.counters import (
    CLOCK_SKEW,
    METRICS_STALE,
    NO_METRICS,
    NO_OBJECTIVE_BUCKET,
    SCRAPE_FAILED,
    Cursor,
    Reading,
    read_interval,
)
from davy.rollout.series import (
    DRIFT,
    MODEL_INFO,
    REQUESTS,
    SECONDS_BUCKET,
    SECONDS_COUNT,
    UP,
    Arms,
    Sample,
    Series,
    SeriesKey,
)
from davy.rollout.verdict import Counts

ARMS = Arms(stable="v1", canary="v2")
Points = list[tuple[float, float]]


def series(metric: str, version: str, points: Points, detail: str = "", pod: str = "") -> Series:
    key = SeriesKey(metric, version, pod or f"{version}:1", detail)
    return Series(key, tuple(Sample(*point) for point in points))


def ok(version: str, points: Points, pod: str = "") -> Series:
    return series(REQUESTS, version, points, "ok", pod)


def failed(version: str, points: Points, pod: str = "") -> Series:
    return series(REQUESTS, version, points, "server_error", pod)


def read(
    cursor: Cursor, *found: Series, now: float = 20.0, indicators: tuple[str, ...] = ("errors",)
) -> Reading:
    return read_interval(
        cursor, found, arms=ARMS, indicators=indicators, objective=0.1, now=now, stale_after=10
    )


def baseline(*found: Series, indicators: tuple[str, ...] = ("errors",)) -> Cursor:
    return read(Cursor(), *found, now=10, indicators=indicators).cursor


def test_the_first_look_is_only_a_baseline() -> None:
    reading = read(Cursor(), ok("v1", [(8, 500), (9, 900)]), ok("v2", [(9, 3)]), now=10)
    assert reading.missing is None
    assert reading.counts == {"errors": Counts(0, 0, 0, 0)}
    assert reading.cursor.newest == 9


def test_counts_are_differences_of_raw_samples() -> None:
    cursor = baseline(ok("v1", [(9, 900)]), failed("v1", [(9, 2)]), ok("v2", [(9, 40)]))
    reading = read(
        cursor,
        ok("v1", [(8, 800), (9, 900), (14, 950), (19, 1000)]),
        failed("v1", [(9, 2), (19, 3)]),
        ok("v2", [(9, 40), (19, 45)]),
    )
    assert reading.counts == {"errors": Counts(101, 1, 5, 0)}
    assert (reading.start, reading.end) == (9, 19)


def test_the_next_interval_starts_where_the_last_ended() -> None:
    cursor = baseline(ok("v1", [(9, 900)]), ok("v2", [(9, 40)]))
    seen = [ok("v1", [(9, 900), (19, 1000)]), ok("v2", [(9, 40), (19, 45)])]
    first = read(cursor, *seen)
    again = read(first.cursor, *seen)
    assert again.counts == {"errors": Counts(0, 0, 0, 0)}


def test_a_labelled_counter_that_appears_with_its_first_event_counts_from_zero() -> None:
    cursor = baseline(ok("v1", [(9, 900)]), ok("v2", [(9, 40)]))
    reading = read(
        cursor, ok("v1", [(19, 1000)]), ok("v2", [(19, 45)]), failed("v2", [(18, 7), (19, 9)])
    )
    assert reading.counts["errors"] == Counts(100, 0, 14, 9)


def test_the_first_scrape_of_a_new_pod_is_its_baseline() -> None:
    cursor = baseline(ok("v1", [(9, 900)]), ok("v2", [(9, 40)]))
    reading = read(
        cursor,
        ok("v1", [(19, 1000)]),
        ok("v2", [(19, 45)]),
        ok("v2", [(15, 1000), (19, 1010)], pod="v2:2"),
        failed("v2", [(19, 4)], pod="v2:2"),
    )
    assert reading.counts["errors"] == Counts(100, 0, 5 + 10 + 4, 4)


def test_a_reset_counts_what_came_after_it() -> None:
    cursor = baseline(ok("v1", [(9, 900)]), ok("v2", [(9, 40)]))
    reading = read(cursor, ok("v1", [(14, 950), (16, 10), (19, 30)]), ok("v2", [(19, 45)]))
    assert reading.counts["errors"] == Counts(50 + 30, 0, 5, 0)


def test_a_reset_of_the_pod_resets_its_other_counters_even_when_they_grew() -> None:
    cursor = baseline(ok("v1", [(9, 900)]), failed("v1", [(9, 2)]), ok("v2", [(9, 40)]))
    reading = read(cursor, ok("v1", [(19, 100)]), failed("v1", [(19, 5)]), ok("v2", [(19, 45)]))
    assert reading.counts["errors"] == Counts(105, 5, 5, 0)


def test_a_counter_that_comes_back_after_a_reset_begins_anew() -> None:
    cursor = baseline(ok("v1", [(9, 900)]), failed("v1", [(9, 2)]), ok("v2", [(9, 40)]))
    first = read(cursor, ok("v1", [(19, 100)]), ok("v2", [(19, 45)]))
    assert first.counts["errors"] == Counts(100, 0, 5, 0)
    second = read(
        first.cursor,
        ok("v1", [(29, 150)]),
        failed("v1", [(29, 5)]),
        ok("v2", [(29, 45)]),
        now=30,
    )
    assert second.counts["errors"] == Counts(55, 5, 0, 0)


def test_a_missed_scrape_loses_nothing() -> None:
    cursor = baseline(ok("v1", [(9, 900)]), ok("v2", [(9, 40)]))
    hole = read(cursor, ok("v1", [(18, 1000)]), ok("v2", [(9, 40)]), now=18)
    assert hole.counts["errors"] == Counts(100, 0, 0, 0)
    after = read(hole.cursor, ok("v1", [(29, 1100)]), ok("v2", [(9, 40), (29, 52)]), now=30)
    assert after.counts["errors"] == Counts(100, 0, 12, 0)


def test_client_errors_are_no_part_of_errors_and_the_event_of_rejected() -> None:
    names = ("errors", "rejected")
    both = [ok("v1", [(9, 0)]), ok("v2", [(9, 0)])]
    bad = [series(REQUESTS, v, [(9, 0)], "client_error") for v in ("v1", "v2")]
    cursor = baseline(*both, *bad, indicators=names)
    reading = read(
        cursor,
        ok("v1", [(19, 90)]),
        ok("v2", [(19, 8)]),
        series(REQUESTS, "v1", [(19, 10)], "client_error"),
        series(REQUESTS, "v2", [(19, 2)], "client_error"),
        series(REQUESTS, "v2", [(19, 1)], "timeout"),
        series(REQUESTS, "v2", [(19, 1)], "shed"),
        indicators=names,
    )
    assert reading.counts["errors"] == Counts(90, 0, 10, 2, node_canary=2)
    assert reading.counts["rejected"] == Counts(100, 10, 12, 2)


def slow_series(version: str, time: float, buckets: Mapping[str, float]) -> list[Series]:
    found = [
        series(SECONDS_BUCKET, version, [(time, value)], bound) for bound, value in buckets.items()
    ]
    return [*found, series(SECONDS_COUNT, version, [(time, buckets["+Inf"])])]


def test_slow_is_what_the_bucket_of_the_objective_does_not_hold() -> None:
    names = ("slow",)
    start = {"0.05": 0.0, "0.1": 0.0, "+Inf": 0.0}
    cursor = baseline(*slow_series("v1", 9, start), *slow_series("v2", 9, start), indicators=names)
    reading = read(
        cursor,
        *slow_series("v1", 19, {"0.05": 80, "0.1": 97, "+Inf": 100}),
        *slow_series("v2", 19, {"0.05": 3, "0.1": 8, "+Inf": 10}),
        indicators=names,
    )
    assert reading.counts["slow"] == Counts(100, 3, 10, 2)


def test_an_objective_between_two_buckets_is_no_evidence() -> None:
    buckets = {"0.05": 1.0, "0.25": 2.0, "+Inf": 2.0}
    reading = read(
        Cursor(),
        *slow_series("v1", 19, buckets),
        *slow_series("v2", 19, buckets),
        indicators=("slow",),
    )
    assert reading.missing is not None
    assert reading.missing.reason == NO_OBJECTIVE_BUCKET
    assert "0.05, 0.25" in reading.missing.message


@pytest.mark.parametrize(
    ("found", "reason", "words"),
    [
        ([], NO_METRICS, "canary v2"),
        ([ok("v1", [(19, 1)])], NO_METRICS, "canary v2"),
        ([ok("v2", [(19, 1)])], NO_METRICS, "stable v1"),
        ([ok("v1", [(9, 1)]), ok("v2", [(19, 1)])], METRICS_STALE, "11.0 s old"),
        ([ok("v1", [(19, 1)]), ok("v2", [(31, 1)])], CLOCK_SKEW, "11.0 s ahead"),
        (
            [ok("v1", [(19, 1)]), ok("v2", [(19, 1)]), series(UP, "", [(19, 0)], pod="v2:1")],
            SCRAPE_FAILED,
            "v2:1 cannot be scraped",
        ),
        ([ok("v1", [(19, 1)]), ok("v2", [(19, math.nan)])], NO_METRICS, "canary v2"),
    ],
)
def test_reasons_why_there_are_no_counts(found: list[Series], reason: str, words: str) -> None:
    cursor = Cursor({SeriesKey(REQUESTS, "v1", "v1:1", "ok"): Sample(5, 1)})
    reading = read(cursor, *found)
    assert reading.missing is not None
    assert reading.missing.reason == reason
    assert words in reading.missing.message
    # Nothing counted, nothing forgotten.
    assert reading.counts == {}
    assert reading.cursor is cursor


def drift(version: str, time: float) -> Series:
    return series(DRIFT, version, [(time, 0)], "price", pod="detector:1")


def up(pod: str, time: float, value: float = 1) -> Series:
    return series(UP, "", [(time, value)], pod=pod)


def test_what_the_detector_says_of_an_arm_is_no_sign_of_its_life() -> None:
    absent = read(Cursor(), ok("v1", [(19, 9)]), drift("v2", 19))
    assert absent.missing is not None
    assert absent.missing.reason == NO_METRICS
    stale = read(Cursor(), ok("v1", [(19, 9)]), ok("v2", [(9, 1)]), drift("v2", 19))
    assert stale.missing is not None
    assert stale.missing.reason == METRICS_STALE


def test_one_silent_pod_of_two_is_noticed_until_it_has_left() -> None:
    both = [ok("v1", [(9, 900)]), ok("v2", [(9, 40)]), ok("v2", [(9, 40)], pod="v2:2")]
    cursor = baseline(*both)
    found = [ok("v1", [(19, 950)]), ok("v2", [(19, 45)])]
    # It is scraped, and says nothing of its requests.
    silent = read(cursor, *found, up("v2:1", 19), up("v2:2", 19))
    assert silent.missing is not None
    assert silent.missing.reason == METRICS_STALE
    assert "v2:2" in silent.missing.message
    # It is asked no more, whatever the last answer was.
    for value in (0, 1):
        left = read(cursor, *found, up("v2:1", 19), up("v2:2", 9, value))
        assert left.missing is None
        assert left.counts["errors"] == Counts(50, 0, 5, 0)


def test_a_canary_that_is_up_and_has_had_no_request_is_no_reason() -> None:
    reading = read(Cursor(), ok("v1", [(19, 9)]), series(MODEL_INFO, "v2", [(19, 1)]))
    assert reading.missing is None
    later = read(
        reading.cursor,
        ok("v1", [(29, 19)]),
        series(MODEL_INFO, "v2", [(29, 1)]),
        ok("v2", [(29, 4)]),
        now=30,
    )
    # Its process was known, so its first requests count.
    assert later.counts["errors"] == Counts(10, 0, 4, 0)


def test_a_pod_that_has_long_gone_is_forgotten() -> None:
    old = ok("v2", [(9, 40)], pod="v2:0")
    cursor = baseline(ok("v1", [(9, 900)]), ok("v2", [(9, 40)]), old)
    assert "v2:0" in cursor.pods()
    much_later = read(cursor, ok("v1", [(299, 1000)]), ok("v2", [(299, 45)]), now=300)
    assert "v2:0" not in much_later.cursor.pods()


@given(
    st.lists(
        st.tuples(st.integers(0, 50), st.integers(0, 5), st.booleans()), min_size=2, max_size=12
    ),
    st.lists(st.integers(1, 12), max_size=4),
)
def test_counts_do_not_depend_on_when_one_looks(
    scrapes: list[tuple[int, int, bool]], looks: list[int]
) -> None:
    """However the stream is cut into intervals, the sums are those of the whole."""
    requests, errors, points_ok, points_bad, expected = 0, 0, [(0.0, 0.0)], [(0.0, 0.0)], [0, 0]
    for time, (n, k, restart) in enumerate(scrapes, start=1):
        if restart and n and requests > n:
            requests, errors = 0, 0
        requests, errors = requests + n, errors + k
        expected[0] += n + k
        expected[1] += k
        points_ok.append((float(time), float(requests)))
        points_bad.append((float(time), float(errors)))
    end = len(scrapes)
    cursor = read(Cursor(), ok("v1", [(0, 0)]), failed("v1", [(0, 0)]), ok("v2", [(0, 0)]), now=0)
    total = [0, 0]
    place = cursor.cursor
    for look in sorted({*(x for x in looks if x < end), end}):
        reading = read(
            place,
            ok("v1", [p for p in points_ok if p[0] <= look]),
            failed("v1", [p for p in points_bad if p[0] <= look]),
            ok("v2", [(look, 0)]),
            now=look,
        )
        total[0] += reading.counts["errors"].n_stable
        total[1] += reading.counts["errors"].k_stable
        place = reading.cursor
    assert total == expected


def test_of_the_buckets_only_the_objective_s_is_remembered() -> None:
    bounds = ["0.01", "0.05", "0.1", "0.5", "+Inf"]

    def look(time: float, seen: float) -> list[Series]:
        return [
            item
            for version in ("v1", "v2")
            for item in (
                ok(version, [(time, seen)]),
                series(SECONDS_COUNT, version, [(time, seen)]),
                *(series(SECONDS_BUCKET, version, [(time, seen - 1)], le) for le in bounds),
            )
        ]

    # As a record from before holds it: every bucket.
    old = Cursor({item.key: item.samples[-1] for item in look(9, 100)})
    for cursor in (baseline(*look(9, 100), indicators=("slow",)), old):
        reading = read(cursor, *look(19, 130), indicators=("slow",))
        assert reading.counts["slow"] == Counts(30, 0, 30, 0)
        buckets = {key.detail for key in reading.cursor.last if key.metric == SECONDS_BUCKET}
        assert buckets == {"0.1"}
