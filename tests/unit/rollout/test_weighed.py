"""Bounds and the evidence at the limits in one go: the same verdict as one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from davy.rollout.pods import RESERVED
from davy.rollout.verdict import Counts, Criterion, Evidence, Outcome, Verdict, fails, judge


def one_by_one(criterion: Criterion, evidence: Evidence) -> Outcome:
    """The verdict by four separate questions, each asked of the evidence against one limit."""
    kept, enough = evidence.all, -math.log(criterion.alpha_pass * (1 - RESERVED) / 2)
    if fails(criterion, kept):
        return "fail"
    if kept.ratio.log_evidence_below(criterion.ratio) >= enough:
        return "pass"
    allowance = criterion.allowance
    if allowance and kept.rate.log_evidence_below(allowance) >= enough:
        return "pass"
    return "inconclusive"


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    base=st.sampled_from([0.0, 1e-4, 0.002, 0.05, 0.6]),
    worse=st.sampled_from([0.5, 1.0, 1.5, 2.0, 10.0]),
    weight=st.sampled_from([0.01, 0.1, 0.5]),
    requests=st.sampled_from([5, 200, 5000]),
    limits=st.sampled_from([(1.0, 0.0), (1.5, 0.0), (1.5, 0.001), (1.2, 0.02), (1000.0, 0.3)]),
)
def test_every_look_of_a_stream_has_the_verdict_of_four_separate_questions(
    seed: int,
    base: float,
    worse: float,
    weight: float,
    requests: int,
    limits: tuple[float, float],
) -> None:
    criterion = Criterion("errors", *limits, alpha_fail=0.025, alpha_pass=0.05)
    rng, evidence, near = np.random.default_rng(seed), Evidence.empty(), None
    for _ in range(25):
        n_c = int(rng.binomial(requests, weight))
        n_s, rate = requests - n_c, min(base * worse, 1.0)
        counts = Counts(n_s, int(rng.binomial(n_s, base)), n_c, int(rng.binomial(n_c, rate)))
        evidence = evidence.with_interval(counts)
        fresh, going_on = judge(criterion, evidence), judge(criterion, evidence, near=near)
        assert fresh.outcome == going_on.outcome == one_by_one(criterion, evidence)
        near = going_on


@pytest.mark.parametrize("counts", [Counts(900, 9, 100, 4), Counts(900, 90, 100, 9)])
def test_the_evidence_at_the_limit_does_not_hang_on_where_the_search_began(counts: Counts) -> None:
    alphas = {"alpha_lower": 0.025, "alpha_upper": 0.0225}
    evidence = Evidence.empty()
    for _ in range(8):
        evidence = evidence.with_interval(counts)
    for kept, limit in ((evidence.ratio, 1.5), (evidence.rate, 0.02)):
        fresh = kept.weigh(limit, **alphas)
        going_on = kept.weigh(limit, **alphas, near=fresh.bounds)
        alone = kept.log_evidence_above(limit), kept.log_evidence_below(limit)
        assert (fresh.above, fresh.below) == (going_on.above, going_on.below) == alone
        assert fresh.bounds == kept.bounds(**alphas)


def test_streams_reach_every_verdict() -> None:
    # What the property is worth: a stream that only ever said one thing would show nothing.
    criterion = Criterion("errors", 1.5, 0.001, alpha_fail=0.025, alpha_pass=0.05)
    seen: set[str] = set()
    for counts in (Counts(900, 2, 100, 2), Counts(9500, 19, 500, 20), Counts(9500, 0, 9500, 0)):
        verdict: Verdict = judge(criterion, Evidence.empty().with_interval(counts))
        assert verdict.outcome == one_by_one(criterion, Evidence.empty().with_interval(counts))
        seen.add(verdict.outcome)
    assert seen == {"fail", "pass", "inconclusive"}
