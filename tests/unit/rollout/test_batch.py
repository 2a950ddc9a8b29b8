"""The verdicts of many streams at once are those that a rollout reaches, look by look."""

from __future__ import annotations

import numpy as np
import pytest

from davy.rollout.batch import FailBatch, PassBatch
from davy.rollout.verdict import Counts, Criterion, Evidence, judge

STREAMS, LOOKS = 6, 60


@pytest.mark.parametrize("allowance", [0.0, 0.004])
@pytest.mark.parametrize("truth", [0.6, 1.0, 4.0])
def test_a_batch_decides_as_judge_does_at_every_look(allowance: float, truth: float) -> None:
    rng = np.random.default_rng([2017, int(10 * truth)])
    criterion = Criterion("errors", 1.5, allowance, alpha_fail=0.025, alpha_pass=0.05)
    failing, passing = FailBatch(criterion, STREAMS), PassBatch(criterion, STREAMS)
    evidence = [Evidence.empty()] * STREAMS
    seen = set()
    for _ in range(LOOKS):
        n = rng.poisson(800, STREAMS)
        n_c = rng.binomial(n, 0.2)
        n_s = n - n_c
        k_s, k_c = rng.binomial(n_s, 0.01), rng.binomial(n_c, 0.01 * truth)
        fails, passes = failing.add(n_s, k_s, n_c, k_c), passing.add(n_s, k_s, n_c, k_c)
        for i in range(STREAMS):
            row = Counts(int(n_s[i]), int(k_s[i]), int(n_c[i]), int(k_c[i]))
            evidence[i] = evidence[i].with_interval(row)
            expected = judge(criterion, evidence[i]).outcome
            found = "fail" if fails[i] else "pass" if passes[i] else "inconclusive"
            assert found == expected
            seen.add(expected)
    assert len(seen) == 2, "a case in which nothing is decided compares nothing"


def test_streams_that_are_kept_go_on_as_if_alone() -> None:
    rng = np.random.default_rng(3)
    criterion = Criterion("errors", 1.5, 0.0, alpha_fail=0.025, alpha_pass=0.05)
    all_, alone = FailBatch(criterion, 3), FailBatch(criterion, 1)
    n = np.full(3, 500)
    for look in range(20):
        k = rng.binomial(n, 0.05)
        kept = n[: 3 if look < 10 else 1]
        if look == 10:
            all_.keep(np.array([True, False, False]))
        both = all_.add(9 * kept, k[: kept.size], kept, k[: kept.size])
        single = alone.add(9 * n[:1], k[:1], n[:1], k[:1])
        assert both[0] == single[0]
    assert both[0], "nine times the rate must fail"
