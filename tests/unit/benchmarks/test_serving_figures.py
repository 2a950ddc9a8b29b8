"""Ratios within a round, percentiles: from measurements to what the tables say."""

from __future__ import annotations

import math

import pytest
from tests.benchmarks.serving.figures import Cell, Spread, absolute, percentile, ratio, spread


def cell(server: str, number: int, requests: int, *, cpu: float = 1.0, case: str = "c") -> Cell:
    return Cell(server, case, number, requests, 0, 1.0, cpu, 0.001, 0.002)


def test_a_percentile_is_a_value_that_occurred() -> None:
    values = [float(number) for number in range(1, 101)]
    assert percentile(values, 0.99) == 99.0
    assert percentile(values, 0.5) == 50.0
    assert percentile([3.0], 0.99) == 3.0


def test_a_ratio_is_taken_within_a_round_not_between_medians() -> None:
    # The machine is ten times slower in the second round: both servers suffer alike.
    cells = [cell("ours", 0, 200), cell("theirs", 0, 100), cell("ours", 1, 20)]
    cells += [cell("theirs", 1, 10), cell("ours", 2, 300), cell("theirs", 2, 100)]
    found = ratio(cells, "ours", "theirs", "c", lambda c: c.rate)
    assert found == Spread(2.0, 2.0, 3.0)


def test_rounds_that_one_server_lacks_are_left_out() -> None:
    cells = [cell("ours", 0, 200), cell("theirs", 0, 100), cell("ours", 1, 900)]
    assert ratio(cells, "ours", "theirs", "c", lambda c: c.rate) == Spread(2.0, 2.0, 2.0)
    assert ratio(cells, "ours", "theirs", "other", lambda c: c.rate) is None


def test_processor_time_is_for_a_request() -> None:
    cells = [cell("ours", 0, 200, cpu=0.1), cell("ours", 1, 100, cpu=0.1)]
    found = absolute(cells, "ours", "c", lambda c: c.cpu)
    assert found is not None
    assert found.median == pytest.approx(0.00075)
    assert (found.low, found.high) == (0.0005, 0.001)


def test_a_round_without_an_answer_is_left_out() -> None:
    refused = Cell("ours", "c", 1, 0, 90, 1.0, 0.5, math.nan, math.nan)
    cells = [cell("ours", 0, 200), refused, cell("theirs", 0, 100), cell("theirs", 1, 100)]
    assert absolute(cells, "ours", "c", lambda c: c.p99) == Spread(0.002, 0.002, 0.002)
    assert ratio(cells, "ours", "theirs", "c", lambda c: c.rate) == Spread(2.0, 2.0, 2.0)
    assert ratio(cells, "theirs", "ours", "c", lambda c: c.cpu) == Spread(2.0, 2.0, 2.0)
    assert math.isnan(percentile([], 0.99))


def test_nothing_has_no_spread() -> None:
    assert spread([]) is None
