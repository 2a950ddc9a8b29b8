"""Margins, allowances and how the error rates are shared out."""

from __future__ import annotations

import math

import pytest

from davy.rollout.sequential import Bounds
from davy.rollout.spec import RolloutSpec
from davy.rollout.verdict import Counts, Criterion, Evidence, Outcome, Verdict, judge, worst


def criterion(*, ratio: float = 1.5, allowance: float = 0.01) -> Criterion:
    return Criterion("errors", ratio, allowance, alpha_fail=0.025, alpha_pass=0.05)


def after(*counts: Counts, comparable: bool = True) -> Evidence:
    evidence = Evidence.empty()
    for item in counts:
        evidence = evidence.with_interval(item, comparable=comparable)
    return evidence


@pytest.mark.parametrize(
    ("counts", "limits", "outcome"),
    [
        (Counts(0, 0, 0, 0), (1.5, 0.01), "inconclusive"),
        (Counts(9500, 0, 500, 0), (1.5, 0.01), "inconclusive"),  # 506 are needed
        (Counts(9500, 0, 520, 0), (1.5, 0.01), "pass"),  # by the rate: no ratio without events
        (Counts(9500, 500, 5000, 260), (1.5, 0.0), "pass"),  # by the ratio
        (Counts(950, 0, 50, 10), (1.5, 0.01), "fail"),
        (Counts(950, 0, 50, 10), (1.5, 0.5), "pass"),  # tolerable by the allowance
        (Counts(0, 0, 50, 50), (1.5, 0.01), "inconclusive"),  # nothing to compare with
        (Counts(9500, 0, 5000, 10), (1.5, 0.01), "pass"),  # worse, and still allowed
        (Counts(95000, 0, 5000, 10), (1.5, 0.0), "fail"),  # allowance 0: the ratio alone
        (Counts(9500, 100, 5000, 79), (1.5, 0.0), "inconclusive"),  # at the margin
    ],
)
def test_verdicts(counts: Counts, limits: tuple[float, float], outcome: Outcome) -> None:
    verdict = judge(criterion(ratio=limits[0], allowance=limits[1]), after(counts))
    assert verdict.outcome == outcome, verdict.reason


def test_the_reason_holds_the_numbers() -> None:
    verdict = judge(criterion(), after(Counts(950, 1, 50, 10)))
    assert "tolerable 1.5" in verdict.reason
    assert "allowed 1.000%" in verdict.reason
    assert "canary 10 in 50, stable 1 in 950" in verdict.reason


def test_an_interval_that_spans_two_weights_counts_for_the_rate_alone() -> None:
    evidence = after(Counts(950, 40, 50, 10), comparable=False)
    verdict = judge(criterion(), evidence)
    assert (verdict.ratio.lower, verdict.ratio.upper) == (0.0, math.inf)
    assert verdict.rate.lower > 0.05
    assert verdict.outcome == "inconclusive"


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        (["pass", "pass"], "pass"),
        (["pass", "inconclusive"], "inconclusive"),
        (["inconclusive", "fail", "pass"], "fail"),
        ([], "inconclusive"),
    ],
)
def test_the_worst_decides(outcomes: list[Outcome], expected: Outcome) -> None:
    anything = Bounds(0, 1)
    verdicts = [Verdict("x", outcome, anything, anything, "") for outcome in outcomes]
    assert worst(verdicts) == expected


def test_false_rollback_is_shared_and_false_promotion_is_not() -> None:
    spec = RolloutSpec.model_validate(
        {
            "candidate": {"version": "v"},
            "steps": [{"weight": 5}],
            "analysis": {
                "falseRollback": 0.04,
                "falsePromotion": 0.02,
                "indicators": [{"name": "errors", "share": 3}, {"name": "slow"}],
            },
        }
    )
    errors, slow = spec.criteria()
    assert (errors.alpha_fail, slow.alpha_fail) == pytest.approx((0.03, 0.01))
    assert (errors.alpha_pass, slow.alpha_pass) == (0.02, 0.02)
