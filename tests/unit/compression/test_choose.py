from __future__ import annotations

import pytest

from davy.compression.choose import choose
from davy.core.errors import InvalidInputError
from davy.data.task import CompressionBudget
from davy.packaging.contract import CompressionCandidate, Interval


def _interval(value, half=0.0):
    return Interval(value=value, lower=value - half, upper=value + half, n=100)


def _candidate(
    name,
    *,
    size=1000,
    latency=1.0,
    spread=0.05,
    difference=(0.0, 0.002),
    segments=None,
    batch=100,
):
    compared = name != "fp32" and difference is not None
    return CompressionCandidate(
        name=name,
        bytes=size,
        batch=batch,
        latency_seconds=_interval(latency, spread),
        quality=_interval(0.2),
        difference=_interval(*difference) if compared else None,
        segments={key: _interval(*value) for key, value in (segments or {}).items()},
        eligible=False,
        reason="not judged yet",
    )


SIZE = CompressionBudget(budget=0.01, prefer="size")
LATENCY = CompressionBudget(budget=0.01, prefer="latency")
FP32 = _candidate("fp32")


def _judged(compression, name):
    return next(item for item in compression.candidates if item.name == name)


def test_the_smallest_eligible_candidate_ships():
    result = choose(SIZE, [FP32, _candidate("int8", size=300), _candidate("pruned_int8", size=200)])
    assert result.chosen == "pruned_int8"
    assert result.why.startswith("the smallest of the eligible candidates: 80.0% smaller")
    assert all(item.eligible for item in result.candidates)


def test_the_fastest_ships_where_latency_is_preferred():
    result = choose(
        LATENCY,
        [
            FP32,
            _candidate("int8", size=200, latency=0.8),
            _candidate("pruned", size=500, latency=0.4),
        ],
    )
    assert result.chosen == "pruned"
    assert "60.0% faster" in result.why


def test_latencies_that_cannot_be_told_apart_leave_it_to_size():
    result = choose(
        LATENCY,
        [
            FP32,
            _candidate("pruned", size=500, latency=0.40),
            _candidate("pruned_int8", size=200, latency=0.45),
        ],
    )
    assert result.chosen == "pruned_int8"


def test_a_point_estimate_within_the_budget_is_not_enough():
    result = choose(SIZE, [FP32, _candidate("int8", size=300, difference=(-0.004, 0.007))])
    assert result.chosen == "fp32"
    reason = _judged(result, "int8").reason
    assert "budget 0.01" in reason
    assert "-0.0040, at worst -0.0110" in reason
    assert result.why == f"no candidate is eligible: int8: {reason}"


def test_exactly_at_the_budget_is_not_above_it():
    result = choose(SIZE, [FP32, _candidate("int8", size=300, difference=(-0.01, 0.0))])
    assert not _judged(result, "int8").eligible


def test_one_bad_segment_is_enough_to_refuse():
    segments = {"lapse=long": (-0.03, 0.005), "lapse=short": (0.0, 0.001)}
    result = choose(SIZE, [FP32, _candidate("int8", size=300, segments=segments)])
    assert result.chosen == "fp32"
    assert "where lapse=long: -0.0300, at worst -0.0350" in _judged(result, "int8").reason


def test_neither_smaller_nor_faster_is_refused():
    result = choose(SIZE, [FP32, _candidate("int8", size=1000, latency=0.95)])
    assert result.chosen == "fp32"
    assert _judged(result, "int8").reason == "neither smaller nor measurably faster than fp32"


def test_faster_alone_makes_eligible_but_not_preferred_by_size():
    result = choose(SIZE, [FP32, _candidate("int8", size=1100, latency=0.5)])
    assert _judged(result, "int8").eligible
    assert result.chosen == "fp32"
    assert result.why == "fp32 is itself the smallest of the eligible candidates"


def test_latencies_at_different_batch_sizes_are_not_compared():
    result = choose(SIZE, [FP32, _candidate("int8", latency=0.1, batch=1)])
    assert not _judged(result, "int8").eligible


def test_without_a_comparison_nothing_is_eligible():
    result = choose(SIZE, [FP32, _candidate("int8", size=1, difference=None)])
    assert _judged(result, "int8").reason == "its quality was not compared with fp32"


def test_fp32_alone_ships():
    result = choose(SIZE, [FP32])
    assert (result.chosen, result.why) == ("fp32", "no other candidate was measured")
    assert result.candidates[0].eligible


def test_judging_twice_changes_nothing():
    once = choose(SIZE, [FP32, _candidate("int8", size=300)])
    assert choose(SIZE, once.candidates) == once


@pytest.mark.parametrize("candidates", [[], [_candidate("int8")], [FP32, FP32]])
def test_fp32_must_be_there_once(candidates):
    with pytest.raises(InvalidInputError, match="needs fp32 once"):
        choose(SIZE, candidates)
