"""The gate and four others on a day of looks with known truth; writes its tables into the page.

``python -m tests.benchmarks.bench_rollout_day`` writes services/davy/rollout/README.md;
``--check`` only prints; ``--runs`` and ``--aa-runs`` for fewer; ``--cost`` only what a day of looks
costs, in seconds. Exits 1 when a promise is broken.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from tests.benchmarks.page import ROOT, Block
from tests.benchmarks.rollout.cost import a_day_of_looks
from tests.benchmarks.rollout.day import Day, run
from tests.benchmarks.rollout.figures import broken, share
from tests.benchmarks.rollout.rivals import NEVER
from tests.benchmarks.rollout.streams import (
    DEFECTS,
    ERRORS,
    HEALTHY,
    JUST,
    LOOK,
    LOOKS,
    MARGIN,
    RATE,
    SLOW,
    TRAFFICS,
    Defect,
    Traffic,
)
from tests.benchmarks.rollout.tables import (
    Tuned,
    default_rows,
    defect_rows,
    healthy_rows,
    node_rows,
)

BLOCK = Block(ROOT / "services/davy/rollout/README.md", "bench-day")
# A block of its own: it is measured in seconds, and changes with the code where the tables do not.
COST_BLOCK = Block(BLOCK.page, "bench-cost")
WEIGHTS = (0.01, 0.05, 0.10, 0.50)
# What all but Davy are allowed in the table of defects.
TUNED_TO = 0.05

PAGE = """
{rate:g} requests a second, a look every {look:g} s for a day ({looks:,} looks), one step at the \
weight of the row; errors {errors:.1%}, slow {slow:.1%}; ratio 1.5 and no allowance for both; 5 % \
chance of either mistake. {aa_runs:,} rollouts a row for tolerable canaries and the one that just \
is not, {runs:,} for others.

**Tolerable canaries.** *Rolled back*: failed before it passed. *Any fail*: at any of the looks, \
had nothing ended the rollout. The others are watched the whole day; *adjusted*: each with the \
threshold that rolls 5 % of the as good canaries with constant traffic back.

{healthy}

**Canaries that are worse; each judge rolls 5 % at most of those back that are as bad as \
tolerable.** The others' thresholds are adjusted to 5 % on that stream, Davy's are as they come. \
Bold: sooner than Davy, or more often at all. Davy is first in {margins} rows. An adjusted rival \
never promotes and watches all day; Davy ends at a promotion, which for the leak may come while \
the canary is still as good. In *one segment* and *outliers* Davy is told to look there, which \
costs error budget; the others cannot be told. Argo's example sees no such error rate.

{margin}

False promotions of the just intolerable canary: {just}.

**The same, asked whether the canary is worse at all** (Davy's ratio 1, watched all day; the \
others adjusted to 5 % of the as good canaries, Davy's threshold as it comes). Davy is first in \
{equals} rows. The repeated test looks each minute, with a threshold fitted to this very traffic \
and length of watching; fitted on anything else it promises nothing, as the first table shows.

{equal}

**As they come, at 10 %**: rolled back first, promoted first. The repeated test and Argo Rollouts' \
example have no rule of their own for promoting within the day.

{default}

**Pods that are not alike**, six hours, weight 10 %, {runs:,} rollouts a cell: rolled back for \
slow answers when each fail is believed, and as it is (each pod left out; a single pod believed \
only when gross; replacing a pod is not simulated). The last two canaries really are slower: what \
the caution costs, in canary requests.

{nodes}

The whole benchmark: {minutes:.0f} CPU minutes.
"""

COST = """
A day of looks at one rollout ({looks:,}, one each {look:g} s), two indicators: {seconds:.1f} s of \
CPU; the dearest look {dearest:.1f} ms.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--aa-runs", type=int, default=1000, help="rollouts a row, limits of it")
    parser.add_argument("--runs", type=int, default=200, help="rollouts a row, defective canary")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--check", action="store_true", help="print only")
    parser.add_argument("--cost", action="store_true", help="only what a day of looks costs")
    given = parser.parse_args(arguments)
    if not given.check:
        BLOCK.check()
    _cost(write=not given.check)
    if given.cost:
        return 0
    began = time.process_time()
    faults: list[str] = []

    cases = [(f"as good, {traffic.name}", traffic, HEALTHY) for traffic in TRAFFICS]
    cases.append((f"{MARGIN.name}, {TRAFFICS[0].name}", TRAFFICS[0], MARGIN))
    worst = (*DEFECTS, JUST)
    jobs = [
        Job((2017, 1, row, column), name, traffic, defect, weight, given.aa_runs, watch_on=True)
        for row, (name, traffic, defect) in enumerate(cases)
        for column, weight in enumerate(WEIGHTS)
    ]
    jobs += [
        Job(
            (2017, 2, row, column),
            defect.name,
            TRAFFICS[0],
            defect,
            weight,
            given.aa_runs if defect is JUST else given.runs,
            watch_on=False,
        )
        for row, defect in enumerate(worst)
        for column, weight in enumerate(WEIGHTS)
    ]
    healthy: list[tuple[str, Day]] = []
    worse: list[Day] = []
    spent = 0.0
    with ProcessPoolExecutor(given.jobs) as pool:
        for job, (day, took) in zip(jobs, pool.map(_run, jobs), strict=True):
            spent += took
            ever, weight = day.fails_ever < NEVER, f"{job.weight:.0%}"
            if job.watch_on:
                healthy.append((job.name, day))
                faults += [f"{job.name} at {weight}: {share(ever)}"] if broken(ever) else []
                _say(f"{job.name}, {weight}: any fail {share(ever)}")
            else:
                worse.append(day)
                if broken(day.promoted) and not job.defect.late:
                    faults.append(f"{job.name} at {weight}: promoted {share(day.promoted)}")
                _say(f"{job.name}, {weight}: back {day.rolled_back.mean():.1%}")
    equal = _adjusted(day for name, day in healthy if name == cases[0][0])
    at_margin = _adjusted(day for _, day in healthy if day.defect == MARGIN)

    ten = [day for name, day in healthy if name == cases[0][0] and day.weight == 0.10]
    ten += [day for _, day in healthy if day.defect == MARGIN and day.weight == 0.10]
    ten += [day for day in worse if day.weight == 0.10]
    margins: list[bool] = []
    equals: list[bool] = []
    just = ", ".join(
        f"{share(day.promoted)} at {day.weight:.0%}" for day in worse if day.defect == JUST
    )
    tables = {
        "healthy": healthy_rows(healthy, equal),
        "margin": defect_rows(worse, at_margin, "repeated test", margins, strict=False),
        "equal": defect_rows(
            [day for day in worse if day.defect != JUST],
            equal,
            "repeated test with the margin",
            equals,
            strict=True,
        ),
        "default": default_rows(ten),
        "nodes": node_rows(given.runs),
    }
    blocks = {name: "\n".join(rows) for name, rows in tables.items()}
    text = PAGE.format(
        rate=RATE,
        look=LOOK,
        looks=LOOKS,
        errors=ERRORS,
        slow=SLOW,
        aa_runs=given.aa_runs,
        runs=given.runs,
        just=just,
        margins=f"{sum(margins)} of {len(margins)}",
        equals=f"{sum(equals)} of {len(equals)}",
        minutes=(spent + time.process_time() - began) / 60,
        **blocks,
    )
    sys.stdout.write(text + "\n")
    if not given.check:
        BLOCK.write(text)
    if faults:
        sys.stderr.write(f"promise broken: {'; '.join(faults)}\n")
    return 1 if faults else 0


def _cost(*, write: bool) -> None:
    """Measure a day of looks, print what it cost, and write it into the page."""
    if write:
        COST_BLOCK.check()
    seconds, dearest = a_day_of_looks()
    text = COST.format(looks=LOOKS, look=LOOK, seconds=seconds, dearest=1000 * dearest)
    sys.stdout.write(text.lstrip())
    if write:
        COST_BLOCK.write(text)


@dataclass(frozen=True, slots=True)
class Job:
    """One row at one weight."""

    seed: tuple[int, ...]
    name: str
    traffic: Traffic
    defect: Defect
    weight: float
    runs: int
    watch_on: bool


def _run(job: Job) -> tuple[Day, float]:
    """Return the day, and the CPU seconds that it took."""
    began, rng = time.process_time(), np.random.default_rng(job.seed)
    day = run(job.traffic, job.defect, job.weight, job.runs, rng, watch_on=job.watch_on)
    return day, time.process_time() - began


def _adjusted(days: Iterable[Day]) -> Tuned:
    return {(j.name, day.weight): j.threshold_for(TUNED_TO) for day in days for j in day.rivals}


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
