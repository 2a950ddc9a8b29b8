"""Canaries whose servers are fresh: compared with warm ones, and with a baseline as fresh.

Belongs here: streams with a slow start, the verdict on them. Not here: other streams, the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from tests.benchmarks.rollout.day import criteria
from tests.benchmarks.rollout.rivals import NEVER
from tests.benchmarks.rollout.streams import ERRORS, HEALTHY, LOOK, RATE, SLOW

from davy.rollout.batch import BoolArray, FailBatch, IntArray, PassBatch
from davy.rollout.series import Shares, shares_at

LOOKS = 4320  # twelve hours


@dataclass(frozen=True, slots=True)
class Start:
    """How a server that is new does, and how much more often the canary's model is slow.

    Its share of slow answers is ``times`` the usual at first, and falls to the usual with a time
    constant of ``minutes``.
    """

    name: str
    times: float = 1.0
    minutes: float = 1.0
    model: float = 1.0

    def factor(self, seconds: float) -> float:
        """Return how many times the usual share of answers is slow, so long after the start."""
        return 1.0 + (self.times - 1.0) * float(np.exp(-seconds / (60 * self.minutes)))


STARTS = (
    Start("as good, no slow start"),
    Start("as good, slow ×5 at first, 5 min", times=5, minutes=5),
    Start("as good, slow ×3 at first, 30 min", times=3, minutes=30),
    Start("as good, slow ×10 at first, 30 min", times=10, minutes=30),
    Start("slow ×3, no slow start", model=3),
    Start("slow ×3, and ×3 more at first, 30 min", times=3, minutes=30, model=3),
)


@dataclass(frozen=True, slots=True)
class Ends:
    """Which rollouts were rolled back and which promoted [R], and canary requests until then."""

    rolled_back: BoolArray
    promoted: BoolArray
    requests: IntArray


def run(start: Start, percent: int, runs: int, rng: np.random.Generator, *, baseline: bool) -> Ends:
    """Run rollouts at one weight from the moment at which canary and baseline are made."""
    wanted = criteria(HEALTHY)
    failing = {name: FailBatch(item, runs) for name, item in wanted.items()}
    passing = {name: PassBatch(item, runs) for name, item in wanted.items()}
    failed, passed = np.full(runs, NEVER), np.full(runs, NEVER)
    requests, so_far = np.zeros(runs, dtype=np.int64), np.zeros(runs, dtype=np.int64)
    rows = np.arange(runs)
    shares = shares_at(percent, baseline=baseline)
    for number, (n_r, n_c, counts) in enumerate(_looks(start, shares, runs, rng)):
        so_far += n_c
        fails, passes = np.zeros(rows.size, dtype=bool), np.ones(rows.size, dtype=bool)
        for name, (k_r, k_c) in counts.items():
            own = (n_r[rows], k_r[rows], n_c[rows], k_c[rows])
            fails |= failing[name].add(*own)
            passes &= passing[name].add(*own)
        passes &= ~fails
        failed[rows[fails]], passed[rows[passes]] = number, number
        done = fails | passes
        requests[rows[done]] = so_far[rows[done]]
        if done.any():
            for batch in (*failing.values(), *passing.values()):
                batch.keep(~done)
            rows = rows[~done]
        if not rows.size:
            break
    return Ends(failed < NEVER, passed < NEVER, requests)


def _looks(
    start: Start, shares: Shares, runs: int, rng: np.random.Generator
) -> Iterator[tuple[IntArray, IntArray, dict[str, tuple[IntArray, IntArray]]]]:
    """Yield requests of the reference and of the canary at each look, and events of both."""
    reference = shares.baseline or shares.stable
    for number in range(LOOKS):
        n_r = rng.poisson(RATE * LOOK * reference / 100, runs)
        n_c = rng.poisson(RATE * LOOK * shares.canary / 100, runs)
        fresh = start.factor(LOOK * number)
        slow = (SLOW * (fresh if shares.baseline else 1.0), SLOW * fresh * start.model)
        yield (
            n_r,
            n_c,
            {
                "errors": (rng.binomial(n_r, ERRORS), rng.binomial(n_c, ERRORS)),
                "slow": (rng.binomial(n_r, slow[0]), rng.binomial(n_c, slow[1])),
            },
        )
