"""Many rollouts at once: the same ends, at the same looks, as the gate's own decisions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from davy.rollout.decide import decide
from davy.rollout.power import Interval, ManyRollouts, Rates, look_interval, simulate
from davy.rollout.spec import RolloutSpec
from davy.rollout.state import FINAL, Observation, Phase, State
from davy.rollout.verdict import Counts

START = datetime(2017, 1, 2, tzinfo=UTC)


def spec(wait: str = "0s", **analysis: Any) -> RolloutSpec:
    return RolloutSpec.model_validate(
        {
            "candidate": {"version": "canary"},
            "steps": [{"weight": 5}, {"weight": 25, "minDuration": wait}, {"weight": 50}],
            "analysis": {
                "interval": "2s",
                "deadline": "300s",
                "indicators": [
                    {"name": "errors", "ratio": 1.5, "allowance": 0.01},
                    {"name": "slow", "ratio": 1.5, "allowance": 0.05},
                ],
                "vetoes": [],
            }
            | analysis,
        }
    )


def test_it_decides_what_the_gate_decides_on_the_same_counts() -> None:
    wanted, runs, rng = spec("9s", deadline="120s"), 10, np.random.default_rng(7)
    # Some healthy, some that fail, some that the deadline ends.
    canary = {"errors": rng.choice([0.0, 0.03, 0.2], runs), "slow": rng.choice([0.01, 0.1], runs)}
    many = ManyRollouts(wanted, wanted.criteria(), runs)
    begun = decide(wanted, State(), Observation(weight=0), START).state
    states, ends = [begun] * runs, [""] * runs
    for number in range(1, 61):
        if not many.index.size:
            break
        now, active = 2.0 * number, many.index.copy()
        drawn: dict[str, list[Counts]] = {"errors": [], "slow": []}
        for run in active:
            n_canary = round(400 * states[run].weight / 100)
            for name, counts in drawn.items():
                k_stable = int(rng.binomial(400 - n_canary, 0.01))
                k_canary = int(rng.binomial(n_canary, canary[name][run]))
                counts.append(Counts(400 - n_canary, k_stable, n_canary, k_canary))
        feed(many, drawn)
        many.look(now)
        for place, run in enumerate(active):
            before = states[run]
            # A weight is honoured 0.3 s after it was asked for: after the interval's start.
            since = before.honoured_since or START + timedelta(seconds=now - 1.7)
            seen = Observation(
                weight=before.weight,
                counts={name: counts[place] for name, counts in drawn.items()},
                start=START.timestamp() + now - 2.0,
                end=START.timestamp() + now,
                honoured=since.timestamp(),
            )
            decision = decide(wanted, before, seen, START + timedelta(seconds=now))
            states[run] = decision.state
            if decision.action == "rollback":
                ends[run] = f"back at {now}"
            if decision.action == "promote":
                ends[run] = f"promoted at {now}"
        for run in active:
            fast = many.end[run]
            assert ends[run] == ("" if fast == "undecided" else f"{fast} at {many.ended_at[run]}")
    assert {item.split(" ", maxsplit=1)[0] for item in ends} >= {"back", "promoted"}
    assert all(state.phase in FINAL | {Phase.PROMOTING, Phase.ROLLING_BACK, Phase.INCONCLUSIVE}
               for state in states)  # fmt: skip


def feed(many: ManyRollouts, drawn: dict[str, list[Counts]]) -> None:
    """Give the counts to the simulation as its own traffic does."""
    fresh = many.fresh
    for name, counts in drawn.items():
        n_stable = np.array([item.n_stable for item in counts])
        k_stable = np.array([item.k_stable for item in counts])
        n_canary = np.array([item.n_canary for item in counts])
        k_canary = np.array([item.k_canary for item in counts])
        none = np.zeros_like(n_canary)
        evidence = many.evidence[name]
        evidence.add(
            Interval(none, none, np.where(fresh, n_canary, 0), np.where(fresh, k_canary, 0)),
            comparable=False,
        )
        keep = ~fresh
        evidence.add(
            Interval(n_stable * keep, k_stable * keep, n_canary * keep, k_canary * keep),
            comparable=True,
        )
    many.at_step += np.where(fresh, 0, n_canary)
    many.requests += n_canary


# What tests/benchmarks/bench_rollout.py found for the same spec and traffic, a look at a time, with
# an interval that holds nine of ten of its own medians.
KNOWN = [
    ("healthy", (0.0, 0.0), (0.005, 0.005), "promoted", (56, 70), (1000, 1250)),
    ("A/A", (0.002, 0.002), (0.02, 0.02), "promoted", (78, 104), (1250, 1750)),
    ("errors 0.2 to 2 %", (0.002, 0.02), (0.005, 0.005), "back", (84, 128), (850, 1300)),
    ("slow 5 to 15 %", (0.0, 0.0), (0.05, 0.15), "back", (16, 30), (150, 290)),
    ("errors 0 to 20 %", (0.0, 0.2), (0.005, 0.005), "back", (2, 8), (20, 60)),
]


@pytest.mark.parametrize(("name", "errors", "slow", "end", "seconds", "requests"), KNOWN)
def test_it_finds_what_the_benchmark_found(
    name: str,
    errors: tuple[float, float],
    slow: tuple[float, float],
    end: str,
    seconds: tuple[int, int],
    requests: tuple[int, int],
) -> None:
    wanted = spec()
    rates = {"errors": Rates(*errors), "slow": Rates(*slow)}
    found = simulate(wanted, wanted.criteria(), rates, traffic=200.0, runs=200, seed=1)
    if end == "promoted":
        assert found.rolled_back == 0.0
        assert found.promoted > 0.95
        time, needed = found.promoted_seconds, found.promoted_requests
        assert list(found.left) == sorted(found.left)
    else:
        assert found.rolled_back > 0.85
        assert found.promoted == 0.0
        time, needed = found.seconds, found.requests
    assert time is not None
    assert needed is not None
    assert seconds[0] <= time <= seconds[1]
    assert requests[0] <= needed <= requests[1]


def test_the_promise_holds_at_the_margin_and_beyond_it() -> None:
    wanted = spec()
    for canary in (0.09, 0.091):
        rates = {"errors": Rates(0.0, 0.0), "slow": Rates(0.06, canary)}
        found = simulate(wanted, wanted.criteria(), rates, traffic=200.0, runs=300, seed=3)
        # 5 % each; 27 of 300 is what chance makes of that in one of a thousand tries.
        assert found.rolled_back <= 27 / 300
        assert found.promoted <= 27 / 300


def test_the_same_seed_gives_the_same_numbers() -> None:
    wanted = spec()
    rates = {"errors": Rates(0.0, 0.02), "slow": Rates(0.01, 0.01)}
    first, again, other = (
        simulate(wanted, wanted.criteria(), rates, traffic=50.0, runs=50, seed=seed)
        for seed in (4, 4, 5)
    )
    assert first == again
    assert first != other


def test_a_long_rollout_is_simulated_with_fewer_looks_and_the_same_result() -> None:
    """A look every 2 s or every 5 s: the end hangs on evidence, not on looks."""
    fine, coarse = spec(deadline="400s"), spec(deadline="1200s")
    assert look_interval(fine) == 2.0
    assert look_interval(coarse) == 5.0
    rates = {"errors": Rates(0.0, 0.0), "slow": Rates(0.005, 0.005)}
    times = [
        simulate(item, item.criteria(), rates, traffic=200.0, runs=100).promoted_seconds
        for item in (fine, coarse)
    ]
    assert times[0] is not None
    assert times[1] is not None
    assert abs(times[0] - times[1]) <= 15
