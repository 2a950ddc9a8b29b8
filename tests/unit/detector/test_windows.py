import math
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from davy.detector.windows import Row, Windower

START = datetime(2017, 1, 1, tzinfo=UTC)


def make(lateness=0.0):
    return Windower(
        categories={"price": False, "department": True},
        window_rows=3,
        window_seconds=600,
        lateness_seconds=lateness,
    )


@pytest.fixture
def windower():
    return make()


def row(number, score=None):
    values = {"price": number / 2, "department": number}
    score = number / 10 if score is None else score
    return Row(START + timedelta(seconds=number), values, score, 100 + number)


def departments(window):
    return window.columns["department"].tolist()


def test_a_full_window_has_the_features_types_and_the_scores(windower):
    for number in range(3):
        assert windower.pop(0) is None
        windower.add(row(number), 0)
    window = windower.pop(0)
    assert (window.rows, window.scored) == (3, 3)
    assert window.columns["price"].tolist() == [0, 0.5, 1]
    assert window.columns["department"].dtype == np.int64
    assert window.columns["score"].tolist() == [0, 0.1, 0.2]
    assert (window.start, window.end) == (START, START + timedelta(seconds=2))
    assert window.numbers == (100, 101, 102)
    assert windower.rows == 0


def test_a_row_without_a_score_is_a_row(windower):
    for number, score in enumerate((0.5, math.nan, 0.5)):
        windower.add(row(number, score), 0)
    window = windower.pop(0)
    assert (window.rows, window.scored) == (3, 2)


def test_an_old_window_ends_before_it_is_full(windower):
    windower.add(row(1), 100)
    assert windower.pop(699) is None
    assert windower.pop(700).rows == 1
    assert windower.pop(5000) is None


def test_more_rows_than_a_window_go_into_the_next(windower):
    for number in range(7):
        windower.add(row(number), 0)
    assert [departments(windower.pop(0)), departments(windower.pop(0))] == [[0, 1, 2], [3, 4, 5]]
    assert windower.pop(0) is None
    assert windower.rows == 1


def test_rows_enter_windows_in_the_order_of_their_events():
    windower = make(lateness=5)
    for number in (1, 0, 3, 2, 5, 4, 20):
        windower.add(row(number), 0)
    assert [departments(windower.pop(0)), departments(windower.pop(0))] == [[0, 1, 2], [3, 4, 5]]
    assert windower.take_late() == 0


def test_a_row_that_comes_later_than_that_counts_in_the_window_that_is_open():
    windower = make(lateness=5)
    for number in (10, 11, 12, 20):
        windower.add(row(number), 0)
    assert departments(windower.pop(0)) == [10, 11, 12]
    for number in (1, 21, 40):
        windower.add(row(number), 0)
    assert departments(windower.pop(0)) == [1, 20, 21]
    assert [windower.take_late(), windower.take_late()] == [1, 0]


def test_a_source_whose_clock_is_ahead_holds_nobody_up():
    windower = make(lateness=5)
    windower.add(row(10_000), 0)
    for number in (1, 2, 3):
        windower.add(row(number), 0)
    assert departments(windower.pop(0)) == [1, 2, 3]
    assert windower.pop(4.9) is None


def test_times_at_the_ends_of_the_calendar_are_times():
    windower = make(lateness=5)
    east, west = timezone(timedelta(hours=14)), timezone(timedelta(hours=-12))
    values = {"price": 0.0, "department": 1}
    for time in (datetime.min.replace(tzinfo=east), datetime.max.replace(tzinfo=west), START):
        windower.add(Row(time, values), 0)
        assert windower.pop(1) is None
    assert windower.pop(600).rows == 3


def test_no_more_than_a_windows_rows_are_held():
    windower = make(lateness=5)
    for number in range(1000):
        windower.add(row(1 + number % 2), number / 1000)
        windower.pop(number / 1000)
    assert windower.rows <= 6


def test_silence_releases_what_is_held():
    windower = make(lateness=5)
    for number in (2, 1, 3):
        windower.add(row(number), 0)
    assert windower.pop(4.9) is None
    assert windower.rows == 3
    assert departments(windower.pop(5)) == [1, 2, 3]


def test_an_old_window_takes_what_is_held_with_it():
    windower = make(lateness=3600)
    windower.add(row(1), 0)
    assert windower.pop(599) is None
    assert windower.pop(600).rows == 1
