"""The gate on streams with known truth: does the promise hold, and how soon is a verdict reached?

``python -m tests.benchmarks.bench_rollout`` writes its table into services/davy/rollout/README.md;
``--check`` only prints, and exits 1 when a promise is broken.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from scipy import stats
from tests.benchmarks.page import ROOT, Block

from davy.rollout.decide import decide
from davy.rollout.spec import RolloutSpec
from davy.rollout.state import FINAL, Observation, Phase, State
from davy.rollout.verdict import Counts

BLOCK = Block(ROOT / "services/davy/rollout/README.md", "bench")
START = datetime(2017, 1, 2, tzinfo=UTC)
RATE = 200.0  # requests a second
SCRAPE = 1.0
# A look finds samples that are up to a scrape old, and a weight takes hold a little after it was
# asked for: both are the demo's.
LAG = 0.5
HONOURED_AFTER = 0.3


@dataclass(frozen=True, slots=True)
class Truth:
    """Rates of both arms, and whether the canary is tolerable by the spec."""

    name: str
    errors: tuple[float, float]
    slow: tuple[float, float]
    tolerable: bool
    shocks: bool = False


def spec(*, seconds: float, allowances: tuple[float, float] = (0.01, 0.05)) -> RolloutSpec:
    """Return the demo's spec: 5, 25, 50 %, a look every 2 s."""
    return RolloutSpec.model_validate(
        {
            "candidate": {"version": "canary"},
            "steps": [{"weight": 5}, {"weight": 25}, {"weight": 50}],
            "analysis": {
                "interval": "2s",
                "deadline": f"{seconds:g}s",
                "indicators": [
                    {"name": "errors", "ratio": 1.5, "allowance": allowances[0]},
                    {"name": "slow", "ratio": 1.5, "allowance": allowances[1]},
                ],
                "vetoes": [],
            },
            "onInconclusive": "Hold",
        }
    )


@dataclass(frozen=True, slots=True)
class Run:
    """How one rollout ended, when it left each step, and canary requests until the end."""

    phase: Phase
    seconds: float
    left: tuple[float, ...]
    canary_requests: int
    naive_rollback: bool


def simulate(wanted: RolloutSpec, truth: Truth, rng: np.random.Generator) -> Run:
    """Run one rollout on drawn counts, as the engine would: weight first, evidence after."""
    state, now, last_scrape = State(), 0.0, -1.0
    honoured, weights = 0.0, [(-math.inf, 0)]
    left: list[float] = []
    requests, totals, naive = 0, np.zeros((2, 4)), False
    interval = wanted.analysis.interval.total_seconds()
    while state.phase not in FINAL | {Phase.INCONCLUSIVE}:
        scrape = math.floor((now - LAG) / SCRAPE) * SCRAPE
        n = int(rng.poisson(RATE * (scrape - last_scrape)))
        shock = truth.shocks and rng.random() < 0.1
        n_c = round(n * _share(weights, last_scrape, scrape))
        counts = {
            "errors": _draw(rng, n - n_c, n_c, truth.errors, 10 if shock else 1),
            "slow": _draw(rng, n - n_c, n_c, truth.slow, 4 if shock else 1),
        }
        requests += n_c
        for index, item in enumerate(counts.values()):
            totals[index] += (item.n_stable, item.k_stable, item.n_canary, item.k_canary)
        naive = naive or any(_two_proportions(row) < 0.025 for row in totals)
        seen = Observation(
            weight=state.weight,
            counts=counts,
            start=START.timestamp() + last_scrape,
            end=START.timestamp() + scrape,
            honoured=START.timestamp() + honoured,
        )
        decision = decide(wanted, state, seen, START + timedelta(seconds=now))
        if decision.action in {"advance", "promote"} and state.phase == Phase.PROGRESSING:
            left.append(now)
        if decision.action == "rollback":
            left.append(now)
        if decision.state.weight != state.weight:
            honoured = now + HONOURED_AFTER
            weights.append((honoured, decision.state.weight))
        state, last_scrape = decision.state, scrape
        now += 0.5 if state.phase in {Phase.PROMOTING, Phase.ROLLING_BACK} else interval
    return Run(state.phase, now, tuple(left), requests, naive)


def _share(weights: Sequence[tuple[float, int]], start: float, end: float) -> float:
    """Return the canary's share of the requests between two times."""
    if end <= start:
        return 0.0
    edges = [*weights, (math.inf, 0)]
    parts = [
        percent / 100 * max(0.0, min(after, end) - max(since, start))
        for (since, percent), (after, _) in itertools.pairwise(edges)
    ]
    return sum(parts) / (end - start)


def _draw(
    rng: np.random.Generator, n_s: int, n_c: int, rates: tuple[float, float], factor: float
) -> Counts:
    k_s = int(rng.binomial(n_s, min(1.0, rates[0] * factor)))
    k_c = int(rng.binomial(n_c, min(1.0, rates[1] * factor)))
    return Counts(n_s, k_s, n_c, k_c)


def _two_proportions(row: np.ndarray) -> float:
    """One-sided p-value of the usual test that the canary's rate is the higher one."""
    n_s, k_s, n_c, k_c = row
    if not n_s or not n_c or not k_s + k_c:
        return 1.0
    pooled = (k_s + k_c) / (n_s + n_c)
    error = math.sqrt(pooled * (1 - pooled) * (1 / n_s + 1 / n_c))
    return float(stats.norm.sf((k_c / n_c - k_s / n_s) / error)) if error else 1.0


TRUTHS = (
    Truth("healthy: no errors, slow 0.5 %", (0.0, 0.0), (0.005, 0.005), tolerable=True),
    Truth("A/A: errors 0.2 %, slow 2 %", (0.002, 0.002), (0.02, 0.02), tolerable=True),
    Truth("A/A, outages on both arms", (0.02, 0.02), (0.06, 0.06), tolerable=True, shocks=True),
    Truth("at the margin: slow 6 % → 9 %", (0.0, 0.0), (0.06, 0.09), tolerable=True),
    Truth("just intolerable: slow 6 % → 9.1 %", (0.0, 0.0), (0.06, 0.091), tolerable=False),
    Truth("errors 0.2 % → 2 %", (0.002, 0.02), (0.005, 0.005), tolerable=False),
    Truth("slow 5 % → 15 %", (0.0, 0.0), (0.05, 0.15), tolerable=False),
    Truth("errors 0 → 20 %", (0.0, 0.2), (0.005, 0.005), tolerable=False),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One truth over all runs."""

    truth: Truth
    runs: Sequence[Run]

    def count(self, phase: Phase) -> int:
        """Return how many runs ended so."""
        return sum(run.phase == phase for run in self.runs)

    @property
    def wrong(self) -> int:
        """Runs that ended against the truth."""
        return self.count(Phase.ROLLED_BACK if self.truth.tolerable else Phase.PROMOTED)

    def broken(self) -> bool:
        """Return whether more runs were wrong than the promise of 5 % explains (99.9 %)."""
        return self.wrong > float(stats.binom.ppf(0.999, len(self.runs), 0.05))

    def cells(self) -> list[str]:
        """Return the table's cells."""
        total = len(self.runs)
        decided = [run for run in self.runs if run.phase in FINAL]
        times = [f"{np.median([run.seconds for run in decided]):.0f} s"] if decided else ["–"]
        seen = [f"{np.median([r.canary_requests for r in decided]):,.0f}"] if decided else ["–"]
        steps = _medians([run.left for run in decided])
        low, high = _interval(self.wrong, total)
        share = sum(run.naive_rollback for run in self.runs) / total
        return [
            self.truth.name,
            "tolerable" if self.truth.tolerable else "not",
            f"{self.count(Phase.PROMOTED) / total:.1%}",
            f"{self.count(Phase.ROLLED_BACK) / total:.1%}",
            f"{self.wrong / total:.1%} ({low:.1%}–{high:.1%})",
            *times,
            steps or "–",
            *seen,
            f"{share:.1%}",
        ]


def _medians(left: Sequence[tuple[float, ...]]) -> str:
    if not left:
        return ""
    depth = min(len(item) for item in left)
    return ", ".join(f"{np.median([item[i] for item in left]):.0f}" for i in range(depth))


def _interval(k: int, n: int) -> tuple[float, float]:
    """Clopper–Pearson, 95 %."""
    low = float(stats.beta.ppf(0.025, k, n - k + 1)) if k else 0.0
    high = float(stats.beta.ppf(0.975, k + 1, n - k)) if k < n else 1.0
    return low, high


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the Markdown table."""
    head = [
        "truth", "canary is", "promoted", "rolled back", "wrong (95 %)", "median time",
        "left steps at (s)", "canary requests", "repeated two-proportion test rolls back",
    ]  # fmt: skip
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield f"| {' | '.join(row.cells())} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--check", action="store_true", help="print only")
    given = parser.parse_args(arguments)
    if not given.check:
        BLOCK.check()
    wanted, rows = spec(seconds=given.seconds), []
    for index, truth in enumerate(TRUTHS):
        rng = np.random.default_rng([2017, index])
        rows.append(Row(truth, [simulate(wanted, truth, rng) for _ in range(given.runs)]))
        sys.stdout.write(" | ".join(rows[-1].cells()) + "\n")
        sys.stdout.flush()
    note = (
        f"{given.runs} rollouts a row, {RATE:g} requests a second, steps 5, 25, 50 %, a look every "
        f"2 s (the newest sample is then {LAG:g} s old), deadline {given.seconds:g} s; errors: "
        "ratio 1.5, allowance 1 %; slow: ratio 1.5, allowance 5 %; 5 % chance of either mistake. "
        "What was neither promoted nor rolled back was inconclusive."
    )
    text = "\n".join((note, "", *table(rows)))
    if not given.check:
        BLOCK.write(text)
    broken = [row.truth.name for row in rows if row.broken()]
    if broken:
        sys.stderr.write(f"promise broken: {', '.join(broken)}\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
