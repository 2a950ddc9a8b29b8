"""Ticks of one rollout come one after the other, and its lock goes with the last of them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.fixtures.operator_cluster import OperatorBed, drive

from davy.rollout.operator.turns import Turns


def test_of_many_with_one_key_one_is_at_work_and_nothing_is_left() -> None:
    turns, at_work, most = Turns(), [0], []
    start = threading.Barrier(8)

    def work(_: int) -> None:
        start.wait(10)
        for _ in range(200):
            with turns.of("a"):
                at_work[0] += 1
                most.append(at_work[0])
                at_work[0] -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert (set(most), len(most), len(turns)) == ({1}, 1600, 0)


def test_others_do_not_wait_for_it() -> None:
    turns = Turns()
    with turns.of("a"), turns.of("b"):
        assert len(turns) == 2
    assert len(turns) == 0


def test_who_fails_leaves_no_lock() -> None:
    turns = Turns()
    with pytest.raises(ValueError, match="x"), turns.of("a"):
        raise ValueError("x")
    assert len(turns) == 0


def test_a_reconciler_keeps_none_of_what_it_has_done() -> None:
    bed = OperatorBed()
    bed.apply()
    operator = bed.operator()
    operator.tick("shop", "next-basket", "uid-0")
    operator.tick("shop", "gone", "uid-9")
    assert len(operator._turns) == 0
    drive(bed)
    assert bed.of().phase == "Promoted"
