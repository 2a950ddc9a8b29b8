"""The sequential tests against brute force, their coverage at every look, and their corners."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from davy.core.errors import InvalidInputError
from davy.rollout.sequential import (
    GRID_STEP,
    RATIO_MIXTURE,
    Mixture,
    RateEvidence,
    RatioEvidence,
    half_normal_mixture,
)

Interval = tuple[int, int, int, int]  # n_stable, k_stable, n_canary, k_canary


def ratio_evidence(intervals: Sequence[Interval]) -> RatioEvidence:
    evidence = RatioEvidence.empty()
    for n_s, k_s, n_c, k_c in intervals:
        evidence = evidence.with_interval(n_stable=n_s, k_stable=k_s, n_canary=n_c, k_canary=k_c)
    return evidence


def brute_force_log_evidence(intervals: Sequence[Interval], theta: float, side: float) -> float:
    """The definition, interval by interval and atom by atom, with scipy's binomial."""

    def log_likelihood(value: float) -> float:
        return sum(
            float(stats.binom.logpmf(k_c, k_s + k_c, n_c * value / (n_c * value + n_s)))
            for n_s, k_s, n_c, k_c in intervals
        )

    base = log_likelihood(theta)
    terms = [
        weight + log_likelihood(theta * math.exp(side * distance)) - base
        for distance, weight in zip(RATIO_MIXTURE.distances, RATIO_MIXTURE.log_weights, strict=True)
    ]
    return float(np.logaddexp.reduce(terms))


CASES: list[list[Interval]] = [
    [(95, 3, 5, 1)],
    [(95, 0, 5, 2), (75, 1, 25, 6), (50, 0, 50, 9)],
    [(190, 7, 10, 0), (10, 1, 190, 20)],
    [(1000, 30, 1000, 0)],
]


@pytest.mark.parametrize("intervals", CASES)
@pytest.mark.parametrize("theta", [0.013, 0.8, 1.0, 1.5, 37.0])
def test_evidence_is_the_likelihood_ratio_that_it_is_defined_as(
    intervals: list[Interval], theta: float
) -> None:
    evidence = ratio_evidence(intervals)
    slack = 2 * evidence.grid_error + 1e-9
    for found, side in (
        (evidence.log_evidence_above(theta), 1.0),
        (evidence.log_evidence_below(theta), -1.0),
    ):
        exact = brute_force_log_evidence(intervals, theta, side)
        # Never more than the exact evidence, and less only by what the grid may cost.
        assert exact - 2 * slack <= found <= exact + 1e-9


def test_the_grid_costs_next_to_nothing_even_with_millions_of_events() -> None:
    intervals = [(9_000_000, 450_000, 1_000_000, 51_000)] * 3
    evidence = ratio_evidence(intervals)
    exact = brute_force_log_evidence(intervals, 1.013, 1.0)
    assert evidence.grid_error < 2e-3
    assert evidence.log_evidence_above(1.013) == pytest.approx(exact, abs=4e-3)


def test_a_finer_mixture_moves_the_bounds_by_less_than_one_percent() -> None:
    fine = RatioEvidence.empty(half_normal_mixture(((1.0, 1.5),), nearest=0.0005, atoms=2000))
    coarse = RatioEvidence.empty()
    for interval in ((950, 40, 50, 3), (750, 38, 250, 14), (500, 20, 500, 31)):
        n_s, k_s, n_c, k_c = interval
        both = {"n_stable": n_s, "k_stable": k_s, "n_canary": n_c, "k_canary": k_c}
        fine, coarse = fine.with_interval(**both), coarse.with_interval(**both)
    a = fine.bounds(alpha_lower=0.025, alpha_upper=0.025)
    b = coarse.bounds(alpha_lower=0.025, alpha_upper=0.025)
    assert b.lower == pytest.approx(a.lower, rel=0.01)
    assert b.upper == pytest.approx(a.upper, rel=0.01)


def expected_evidence(
    plan: Sequence[tuple[int, int]], p_stable: float, p_canary: float, theta: float, side: float
) -> float:
    """E[E] over every outcome of the plan's intervals, each arm binomial."""
    total = 0.0
    ranges = [range(n + 1) for pair in plan for n in pair]
    for events in itertools.product(*ranges):
        probability, intervals = 1.0, []
        for index, (n_s, n_c) in enumerate(plan):
            k_s, k_c = events[2 * index], events[2 * index + 1]
            probability *= float(stats.binom.pmf(k_s, n_s, p_stable))
            probability *= float(stats.binom.pmf(k_c, n_c, p_canary))
            intervals.append((n_s, k_s, n_c, k_c))
        evidence = ratio_evidence(intervals)
        above = side > 0
        log_e = evidence.log_evidence_above(theta) if above else evidence.log_evidence_below(theta)
        total += probability * math.exp(log_e)
    return total


@pytest.mark.parametrize("p_stable", [0.02, 0.3, 0.6])
@pytest.mark.parametrize("plan", [[(6, 2)], [(3, 1), (1, 3)]])
def test_expected_evidence_never_exceeds_one_however_frequent_the_event(
    p_stable: float, plan: list[tuple[int, int]]
) -> None:
    theta = 1.5
    assert expected_evidence(plan, p_stable, theta * p_stable, theta, 1.0) <= 1 + 1e-9
    assert expected_evidence(plan, p_stable, theta * p_stable, theta, -1.0) <= 1 + 1e-9
    # Inside the hypothesis as well as on its edge.
    assert expected_evidence(plan, p_stable, 0.7 * p_stable, theta, 1.0) <= 1 + 1e-9
    assert expected_evidence(plan, p_stable, min(1.0, 1.6 * p_stable), theta, -1.0) <= 1 + 1e-9


def test_expected_evidence_exceeds_one_outside_the_hypothesis() -> None:
    assert expected_evidence([(6, 2)], 0.02, 0.5, 1.5, 1.0) > 1.5


def test_evidence_is_a_martingale_given_the_events() -> None:
    n_s, n_c, events, theta = 90, 10, 7, 1.3
    rho = n_c * theta / (n_c * theta + n_s)
    mean = sum(
        float(stats.binom.pmf(k, events, rho))
        * math.exp(ratio_evidence([(n_s, events - k, n_c, k)]).log_evidence(theta))
        for k in range(events + 1)
    )
    assert mean == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("rate", [0.001, 0.05, 0.5])
def test_expected_rate_evidence_is_one_at_the_rate_and_below_one_beyond(rate: float) -> None:
    def expected(truth: float, log_e: Callable[[RateEvidence], float]) -> float:
        return sum(
            float(stats.binom.pmf(k, 30, truth)) * math.exp(log_e(RateEvidence(30, k)))
            for k in range(31)
        )

    assert expected(rate, lambda e: e.log_evidence_above(rate)) == pytest.approx(1, abs=1e-9)
    assert expected(rate, lambda e: e.log_evidence_below(rate)) == pytest.approx(1, abs=1e-9)
    assert expected(rate / 2, lambda e: e.log_evidence_above(rate)) < 1
    assert expected(min(1, rate * 1.5), lambda e: e.log_evidence_below(rate)) < 1


# -- coverage at every look ------------------------------------------------------------------

LOOKS, RUNS, ALPHA = 90, 200, 0.1
# At most ALPHA of the runs may ever exclude the truth; three standard deviations of luck on top.
LIMIT = RUNS * ALPHA + 3 * math.sqrt(RUNS * ALPHA * (1 - ALPHA))

Stream = list[Interval]


def stream(rng: np.random.Generator, theta: float) -> Stream:
    """Traffic with waves, changing weights and shocks that hit both arms."""
    intervals = []
    for look in range(LOOKS):
        weight = (0.05, 0.25, 0.5)[look * 3 // LOOKS]
        requests = int(400 * (1 + 0.5 * math.sin(look / 9)))
        rate = 0.04 * (8 if rng.random() < 0.05 else 1)
        n_c = int(rng.binomial(requests, weight))
        k_s = int(rng.binomial(requests - n_c, rate))
        intervals.append((requests - n_c, k_s, n_c, int(rng.binomial(n_c, min(1, theta * rate)))))
    return intervals


def sequential_rejections(run: Stream, theta: float) -> tuple[bool, bool]:
    evidence, above, below = RatioEvidence.empty(), False, False
    for n_s, k_s, n_c, k_c in run:
        evidence = evidence.with_interval(n_stable=n_s, k_stable=k_s, n_canary=n_c, k_canary=k_c)
        above = above or evidence.log_evidence_above(theta) >= -math.log(ALPHA)
        below = below or evidence.log_evidence_below(theta) >= -math.log(ALPHA)
    return above, below


def fixed_horizon_rejections(run: Stream, theta: float) -> tuple[bool, bool]:
    """The usual interval of a log ratio, looked at again and again."""
    totals, above, below = np.zeros(4), False, False
    z = stats.norm.ppf(1 - ALPHA)
    for interval in run:
        totals += interval
        n_s, k_s, n_c, k_c = totals
        if k_s and k_c:
            log_ratio = math.log(k_c / n_c / (k_s / n_s))
            error = math.sqrt(1 / k_c - 1 / n_c + 1 / k_s - 1 / n_s)
            above = above or log_ratio - z * error > math.log(theta)
            below = below or log_ratio + z * error < math.log(theta)
    return above, below


@pytest.mark.parametrize("theta", [1.0, 1.5])
def test_bounds_hold_at_all_looks_at_once_where_a_fixed_interval_does_not(theta: float) -> None:
    rng = np.random.default_rng(20170101)
    ours, theirs = np.zeros(2), np.zeros(2)
    for _ in range(RUNS):
        run = stream(rng, theta)
        ours += sequential_rejections(run, theta)
        theirs += fixed_horizon_rejections(run, theta)
    assert (ours <= LIMIT).all(), f"{ours} of {RUNS} runs excluded the truth"
    # The same test catches bounds that are only valid at one look.
    assert (theirs > LIMIT).all()


def test_rate_bounds_hold_at_all_looks_at_once() -> None:
    rng = np.random.default_rng(7)
    wrong = np.zeros(2)
    for _ in range(RUNS):
        evidence, above, below = RateEvidence(), False, False
        for _ in range(LOOKS):
            evidence = evidence.with_interval(n=50, k=int(rng.binomial(50, 0.02)))
            above = above or evidence.log_evidence_above(0.02) >= -math.log(ALPHA)
            below = below or evidence.log_evidence_below(0.02) >= -math.log(ALPHA)
        wrong += above, below
    assert (wrong <= LIMIT).all()


# -- order, corners, speed -------------------------------------------------------------------

counts = st.tuples(
    st.integers(0, 2000), st.integers(0, 100), st.integers(0, 500), st.integers(0, 100)
).map(lambda c: (max(c[0], c[1]), c[1], max(c[2], c[3]), c[3]))


@settings(deadline=None, max_examples=60)
@given(st.lists(counts, min_size=1, max_size=4), st.floats(-5, 5), st.floats(0.01, 2))
def test_evidence_is_monotone_in_the_value_under_test(
    intervals: list[Interval], x: float, further: float
) -> None:
    evidence = ratio_evidence(intervals)
    low, high = math.exp(x), math.exp(x + further)
    slack = 4 * evidence.grid_error + 1e-9
    assert evidence.log_evidence_above(high) <= evidence.log_evidence_above(low) + slack
    assert evidence.log_evidence_below(high) >= evidence.log_evidence_below(low) - slack


@settings(deadline=None, max_examples=60)
@given(st.lists(counts, min_size=1, max_size=4), st.integers(1, 50))
def test_more_events_of_the_canary_never_lower_a_bound(
    intervals: list[Interval], more: int
) -> None:
    worse = [(n_s, k_s, n_c, min(n_c, k_c + more)) for n_s, k_s, n_c, k_c in intervals]
    before, after = (
        ratio_evidence(each).bounds(alpha_lower=0.05, alpha_upper=0.05)
        for each in (intervals, worse)
    )
    assert after.lower >= before.lower * (1 - 1e-6)
    assert after.upper >= before.upper * (1 - 1e-6)


@settings(deadline=None, max_examples=60)
@given(counts)
def test_bounds_bracket_what_was_seen(interval: Interval) -> None:
    n_s, k_s, n_c, k_c = interval
    bounds = ratio_evidence([interval]).bounds(alpha_lower=0.2, alpha_upper=0.2)
    if k_s and k_c:
        assert bounds.lower <= (k_c / n_c) / (k_s / n_s) <= bounds.upper
    rate = RateEvidence().with_interval(n=n_c, k=k_c).bounds(alpha_lower=0.2, alpha_upper=0.2)
    if n_c:
        assert rate.lower <= k_c / n_c <= rate.upper


@settings(deadline=None, max_examples=30)
@given(st.lists(counts, min_size=2, max_size=4))
def test_the_order_of_intervals_does_not_matter(intervals: list[Interval]) -> None:
    there, back = ratio_evidence(intervals), ratio_evidence(intervals[::-1])
    assert there.log_evidence(1.7) == pytest.approx(back.log_evidence(1.7), abs=1e-8)


@pytest.mark.parametrize("interval", [(100, 0, 10, 0), (0, 0, 10, 3), (100, 7, 0, 0), (0, 0, 0, 0)])
def test_an_interval_without_events_or_with_a_silent_arm_says_nothing_of_the_ratio(
    interval: Interval,
) -> None:
    bounds = ratio_evidence([interval]).bounds(alpha_lower=0.05, alpha_upper=0.05)
    assert (bounds.lower, bounds.upper) == (0.0, math.inf)


def test_without_any_request_nothing_is_known_of_the_rate() -> None:
    bounds = RateEvidence().bounds(alpha_lower=0.05, alpha_upper=0.05)
    assert (bounds.lower, bounds.upper) == (0.0, 1.0)


def test_events_on_one_arm_alone_bound_the_ratio_on_one_side() -> None:
    only_canary = ratio_evidence([(900, 0, 100, 12)]).bounds(alpha_lower=0.05, alpha_upper=0.05)
    assert only_canary.lower > 5
    assert only_canary.upper == math.inf
    only_stable = ratio_evidence([(900, 40, 900, 0)]).bounds(alpha_lower=0.05, alpha_upper=0.05)
    assert only_stable.lower == 0.0
    assert only_stable.upper < 0.3


def test_a_thousand_million_requests_and_one_event_in_ten_million() -> None:
    evidence = ratio_evidence([(990_000_000, 99, 10_000_000, 1)] * 20)
    bounds = evidence.bounds(alpha_lower=0.025, alpha_upper=0.025)
    assert 0.4 < bounds.lower < 1.0 < bounds.upper < 2.2
    rate = RateEvidence().with_interval(n=1_000_000_000, k=100)
    found = rate.bounds(alpha_lower=0.025, alpha_upper=0.025)
    assert 0.6e-7 < found.lower < 1e-7 < found.upper < 1.5e-7


def test_a_thousand_million_requests_with_frequent_events() -> None:
    bounds = ratio_evidence([(900_000_000, 45_000_000, 100_000_000, 5_100_000)]).bounds(
        alpha_lower=0.025, alpha_upper=0.025
    )
    assert 1.017 < bounds.lower < 1.02 < bounds.upper < 1.023


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"k_canary": 11}, "canary: more events than requests: 11 in 10"),
        ({"k_stable": 101}, "stable: more events than requests: 101 in 100"),
        ({"n_stable": -1, "k_stable": 0}, "negative"),
        ({"k_canary": -1}, "negative"),
    ],
)
def test_impossible_counts_are_refused(changes: dict[str, int], words: str) -> None:
    interval = {"n_stable": 100, "k_stable": 1, "n_canary": 10, "k_canary": 1} | changes
    with pytest.raises(InvalidInputError, match=words):
        RatioEvidence.empty().with_interval(**interval)


def test_a_rate_outside_zero_and_one_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="between 0 and 1"):
        RateEvidence(10, 1).log_evidence_above(0.0)


def test_one_look_takes_less_than_ten_milliseconds() -> None:
    evidence = ratio_evidence(CASES[1])
    best = math.inf
    for _ in range(5):
        start = time.perf_counter()
        evidence = evidence.with_interval(n_stable=95, k_stable=4, n_canary=5, k_canary=1)
        evidence.bounds(alpha_lower=0.025, alpha_upper=0.025)
        best = min(best, time.perf_counter() - start)
    assert best < 0.01


@pytest.mark.parametrize("odds", [0.01, 1.0, 20.0])
def test_the_grid_is_fine_enough_for_its_stated_error(odds: float) -> None:
    n_c = round(100_000 * odds)
    interval = (100_000, 8000, n_c, min(9000, n_c))
    evidence = ratio_evidence([interval])
    # Between grid points, where interpolation is at its worst.
    for x in np.arange(-3, 3, 0.37) * (1 + GRID_STEP / 2):
        exact = brute_force_log_evidence([interval], math.exp(x), 1.0)
        found = evidence.log_evidence_above(math.exp(x)) + 2 * evidence.grid_error
        assert abs(found - exact) <= 2 * evidence.grid_error + 1e-9 * abs(exact)


# -- an independent implementation ------------------------------------------------------------


def truncated_beta_mixture(rate: float, r: float, atoms: int = 20_000) -> Mixture:
    """Beta(r / (1 - rate), r / rate), cut off below `rate`, as atoms of our kind."""
    base = math.log(rate / (1 - rate))
    edges = np.concatenate(([0.0], np.geomspace(1e-9, 30.0, atoms)))
    distances = (edges[1:] + edges[:-1]) / 2
    p = 1 / (1 + np.exp(-(base + distances)))
    density = stats.beta.logpdf(p, r / (1 - rate), r / rate) + np.log(p) + np.log1p(-p)
    weights = np.exp(density) * np.diff(edges)
    keep = weights > 0
    return Mixture(distances[keep], np.log(weights[keep] / weights[keep].sum()))


@pytest.mark.parametrize(
    ("rate", "r", "n", "k", "expected"),
    [
        (0.01, 0.06831314278891011, 100, 3, 0.5980333409292269),
        (0.01, 0.06831314278891011, 1000, 25, 6.33352148618552),
        (0.01, 0.06831314278891011, 5000, 60, -1.2398339544659491),
        (0.01, 0.06831314278891011, 400, 0, -2.5497543474002873),
        (0.2, 1.1040507925480423, 100, 3, -2.9585057353265816),
        (0.2, 1.1040507925480423, 1000, 25, -5.2416515375062565),
        (0.2, 1.1040507925480423, 400, 0, -4.463677774236387),
    ],
)
def test_the_rate_with_a_beta_prior_is_the_beta_binomial_mixture_of_others(
    rate: float, r: float, n: int, k: int, expected: float
) -> None:
    # Computed once with the package expectation (it needs Python 3.12): its one-sided
    # BetaBinomialMixture with g = rate, h = 1 - rate, at s = k - n rate, v = n g h.
    evidence = RateEvidence(n, k, truncated_beta_mixture(rate, r))
    assert evidence.log_evidence_above(rate) == pytest.approx(expected, abs=2e-4)
