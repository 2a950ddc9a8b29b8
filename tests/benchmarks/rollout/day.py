"""A day of looks at many rollouts at one weight: what Davy and the others make of it.

Belongs here: running one case. Not here: which cases, and the table (`tests.benchmarks.
bench_rollout_day`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from tests.benchmarks.rollout.rivals import MINUTES, NEVER, Judged, Minutes, judge_all
from tests.benchmarks.rollout.streams import LOOKS, SEGMENTS, Defect, Look, Traffic, looks

from davy.rollout.batch import BoolArray, FailBatch, IntArray, PassBatch
from davy.rollout.spec import RolloutSpec
from davy.rollout.verdict import Criterion

LOOKS_A_MINUTE = LOOKS // MINUTES


@dataclass(frozen=True, slots=True)
class Day:
    """How each rollout ended: the look of its first fail and pass [R], `NEVER` where none came.

    ``fails_ever`` is the first fail when nothing ends the rollout, ``fails_strict`` when besides no
    ratio above 1 is tolerable; ``requests`` are the canary's until the end of each minute, [M, R],
    and those of ``requests_at`` until the look of each of these.
    """

    defect: Defect
    weight: float
    failed: IntArray
    passed: IntArray
    fails_ever: IntArray
    fails_strict: IntArray
    requests: IntArray
    requests_at: dict[str, IntArray]
    rivals: tuple[Judged, ...]

    @property
    def runs(self) -> int:
        """How many rollouts."""
        return self.failed.size

    @property
    def rolled_back(self) -> BoolArray:
        """Which failed before they passed."""
        return self.failed < np.minimum(self.passed, NEVER)

    @property
    def promoted(self) -> BoolArray:
        """Which passed before they failed."""
        return self.passed < np.minimum(self.failed, NEVER)

    def requests_until(self, minute: IntArray) -> IntArray:
        """Return the canary's requests until a minute of each [R]; 0 where it never comes."""
        at = np.minimum(minute, MINUTES - 1)
        return np.where(minute < NEVER, self.requests[at, np.arange(self.runs)], 0)


def criteria(defect: Defect, ratio: float = 1.5) -> dict[str, Criterion]:
    """Return what Davy judges by: the spec's own sharing of the error rates."""
    indicators: list[dict[str, Any]] = [
        {"name": "errors", "ratio": ratio},
        {"name": "slow", "ratio": ratio},
    ]
    if defect.needs == "segments":
        values = [str(number) for number in range(SEGMENTS)]
        indicators[0]["segments"] = {"label": "segment", "values": values}
    if defect.needs == "outliers":
        indicators.append({"name": "outliers", "ratio": ratio})
    spec = RolloutSpec.model_validate(
        {
            "candidate": {"version": "canary"},
            "steps": [{"weight": 10}],
            "analysis": {"indicators": indicators},
        }
    )
    found = {item.name: item for item in spec.criteria()}
    # The defect is in one segment; the others are as the stable arm's and are left out, which
    # could only roll back falsely, and hold the promotion up.
    return {name: item for name, item in found.items() if "[" not in name or name.endswith("=0]")}


def run(
    traffic: Traffic,
    defect: Defect,
    weight: float,
    runs: int,
    rng: np.random.Generator,
    *,
    watch_on: bool = False,
) -> Day:
    """Run a day of rollouts at one weight.

    Parameters
    ----------
    watch_on : bool
        Look for fails the whole day, also after a rollout has passed; then not for strict ones.
    """
    wanted = criteria(defect)
    failing = {name: FailBatch(item, runs) for name, item in wanted.items()}
    passing = {name: PassBatch(item, runs) for name, item in wanted.items()}
    strictly = {n: FailBatch(item, runs) for n, item in criteria(defect, ratio=1.0).items()}
    passed, ever, strict = (np.full(runs, NEVER) for _ in range(3))
    at = {name: np.zeros(runs, dtype=np.int64) for name in ("passed", "failed", "strict")}
    so_far = np.zeros(runs, dtype=np.int64)
    fail_rows = pass_rows = np.arange(runs)
    strict_rows = np.arange(0 if watch_on else runs)
    minutes = np.zeros((6, MINUTES, runs), dtype=np.int32)
    for number, look in enumerate(looks(traffic, defect, weight, runs, rng)):
        minute = number // LOOKS_A_MINUTE
        rows = (look.n_s, look.n_c, *look.errors, *look.slow)
        for total, part in zip(minutes, rows, strict=True):
            total[minute] += part
        so_far += look.n_c
        counts = {name: _counts(name, look) for name in wanted}
        if fail_rows.size:
            fails = _any_fails(failing, counts, fail_rows)
            ever[fail_rows[fails]] = number
            at["failed"][fail_rows[fails]] = so_far[fail_rows[fails]]
            fail_rows = _kept(failing, fail_rows, ~fails, alone=bool(fails.any()))
        if strict_rows.size:
            fails = _any_fails(strictly, counts, strict_rows)
            strict[strict_rows[fails]] = number
            at["strict"][strict_rows[fails]] = so_far[strict_rows[fails]]
            strict_rows = _kept(strictly, strict_rows, ~fails, alone=bool(fails.any()))
        if pass_rows.size:
            passes = np.ones(pass_rows.size, dtype=bool)
            for name, batch in passing.items():
                passes &= batch.add(*(item[pass_rows] for item in counts[name]))
            passed[pass_rows[passes]] = number
            at["passed"][pass_rows[passes]] = so_far[pass_rows[passes]]
            open_ = ~passes & (ever[pass_rows] == NEVER)
            pass_rows = _kept(passing, pass_rows, open_, alone=not bool(open_.all()))
            if not watch_on and passes.any():
                on = passed[fail_rows] == NEVER
                fail_rows = _kept(failing, fail_rows, on, alone=True)
    failed = np.where(ever <= passed, ever, NEVER)
    n_s, n_c, e_s, e_c, s_s, s_c = minutes
    rivals = judge_all(Minutes(n_s, n_c, e_s, e_c, s_s, s_c))
    requests = np.cumsum(n_c, axis=0)
    return Day(defect, weight, failed, passed, ever, strict, requests, at, rivals)


def _any_fails(
    batches: dict[str, FailBatch],
    counts: dict[str, tuple[IntArray, IntArray, IntArray, IntArray]],
    rows: IntArray,
) -> BoolArray:
    fails: BoolArray = np.zeros(rows.size, dtype=bool)
    for name, batch in batches.items():
        fails |= batch.add(*(item[rows] for item in counts[name]))
    return fails


def _counts(name: str, look: Look) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    if "[" in name:
        return look.segment
    k_s, k_c = {"errors": look.errors, "slow": look.slow, "outliers": look.outliers}[name]
    return look.n_s, k_s, look.n_c, k_c


def _kept(
    batches: dict[str, FailBatch] | dict[str, PassBatch],
    rows: IntArray,
    on: BoolArray,
    *,
    alone: bool,
) -> IntArray:
    if not alone:
        return rows
    for batch in batches.values():
        batch.keep(on)
    return rows[on]
