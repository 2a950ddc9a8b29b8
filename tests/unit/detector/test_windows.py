from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from davy.detector.windows import Row, Windower

START = datetime(2017, 1, 1, tzinfo=UTC)


@pytest.fixture
def windower():
    return Windower(
        categories={"price": False, "department": True},
        window_rows=3,
        window_seconds=600,
        join_seconds=30,
        pending=5,
    )


def row(number):
    return Row(START + timedelta(seconds=number), {"price": number / 2, "department": number})


def both(windower, number, now=0.0):
    windower.request(f"r{number}", row(number), now)
    windower.response(f"r{number}", number / 10, now)


def test_a_full_window_has_the_features_types_and_the_scores(windower):
    for number in range(3):
        assert windower.pop(0) is None
        both(windower, number)
    window = windower.pop(0)
    assert (window.rows, window.scored) == (3, 3)
    assert window.columns["price"].tolist() == [0, 0.5, 1]
    assert window.columns["department"].dtype == np.int64
    assert window.columns["score"].tolist() == [0, 0.1, 0.2]
    assert (window.start, window.end) == (START, START + timedelta(seconds=2))
    assert windower.rows == 0


def test_the_response_may_come_first(windower):
    windower.response("r1", 0.7, 0)
    windower.request("r1", row(1), 1)
    assert (windower.rows, windower.waiting) == (1, 0)


def test_a_row_without_its_response_joins_without_a_score_after_the_bound(windower):
    windower.request("r1", row(1), 0)
    for number in (2, 3):
        both(windower, number, now=1)
    assert windower.pop(29) is None
    window = windower.pop(30)
    assert (window.rows, window.scored) == (3, 2)


def test_a_response_after_the_bound_is_late_and_told_again_a_duplicate(windower):
    windower.request("r1", row(1), 0)
    windower.pop(30)
    assert windower.response("r1", 0.5, 31) == "late"
    assert windower.response("r1", 0.5, 32) == "duplicate"
    assert windower.take_orphans() == 0


def test_a_request_told_twice_counts_once(windower):
    assert windower.request("r1", row(1), 0) is None
    assert windower.request("r1", row(1), 0) == "duplicate"
    assert windower.response("r1", 0.5, 0) is None
    assert windower.response("r1", 0.5, 0) == "duplicate"
    assert windower.request("r1", row(1), 0) == "duplicate"
    assert windower.rows == 1


def test_a_response_told_twice_before_its_request_counts_once(windower):
    assert windower.response("r1", 0.5, 0) is None
    assert windower.response("r1", 0.5, 0) == "duplicate"


def test_an_old_window_ends_before_it_is_full(windower):
    both(windower, 1, now=100)
    assert windower.pop(699) is None
    assert windower.pop(700).rows == 1
    assert windower.pop(5000) is None


def test_what_waits_is_bounded_and_the_oldest_gives_way(windower):
    for number in range(8):
        windower.request(f"r{number}", row(number), 0)
        windower.response(f"s{number}", 0.1, 0)
    window = windower.pop(0)
    assert windower.waiting == 5
    assert window.columns["department"].tolist() == [0, 1, 2]
    assert window.scored == 0
    assert windower.take_orphans() == 3
    assert windower.response("r0", 0.5, 0) == "late"
    # The oldest responses are gone: a request for one of them waits in vain.
    windower.request("s0", row(9), 0)
    assert windower.waiting == 6


def test_more_rows_than_a_window_go_into_the_next(windower):
    for number in range(7):
        both(windower, number)
    assert [windower.pop(0).rows, windower.pop(0).rows] == [3, 3]
    assert windower.pop(0) is None
    assert windower.rows == 1


def test_a_response_that_nobody_asked_for_is_let_go_and_counted_once(windower):
    windower.response("r1", 0.5, 0)
    windower.pop(29)
    assert windower.take_orphans() == 0
    windower.pop(30)
    assert [windower.take_orphans(), windower.take_orphans()] == [1, 0]
    windower.request("r1", row(1), 31)
    assert windower.waiting == 1
