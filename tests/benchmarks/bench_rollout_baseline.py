"""A canary on fresh servers, with and without a baseline; writes its table into the page.

``python -m tests.benchmarks.bench_rollout_baseline`` writes services/davy/rollout/README.md;
``--check`` only prints; ``--runs`` for fewer. Exits 1 when a canary that is as good is rolled back
beside a baseline more often than promised.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence

import numpy as np
from tests.benchmarks.page import ROOT, Block
from tests.benchmarks.rollout.cold import LOOKS, STARTS, Ends, run
from tests.benchmarks.rollout.figures import broken, header, number, row
from tests.benchmarks.rollout.streams import ERRORS, LOOK, RATE, SLOW

BLOCK = Block(ROOT / "services/davy/rollout/README.md", "bench-baseline")
WEIGHTS = (5, 40)

PAGE = """
{rate:g} requests a second, a look every {look:g} s for {hours:g} hours, one step at the weight \
of the row; errors {errors:.1%}, slow {slow:.1%} once a server is warm; ratio 1.5 and no allowance \
for both; 5 % chance of either mistake; {runs:,} rollouts a cell. *Slow ×5 at first, 5 min*: a new \
server gives five times as many slow answers, which falls with a time constant of five minutes. \
Rolled back, promoted, canary requests until then (median).

{table}

{seconds:.0f} s of CPU.
"""


def rows(runs: int, faults: list[str]) -> Iterator[str]:
    """Yield the table; `faults` takes what is as good and rolled back beside a baseline."""
    yield from header(
        ["canary", "weight", "against the stable arm, warm", "against a baseline, as fresh"]
    )
    for index, start in enumerate(STARTS):
        for percent in WEIGHTS:
            cells = [start.name, f"{percent}%"]
            for baseline in (False, True):
                rng = np.random.default_rng([2017, 5, index, percent, baseline])
                ends = run(start, percent, runs, rng, baseline=baseline)
                cells.append(_told(ends))
                if baseline and start.model == 1 and broken(ends.rolled_back):
                    faults.append(f"{start.name} at {percent} %: {ends.rolled_back.mean():.1%}")
            yield row(cells)


def _told(ends: Ends) -> str:
    which = ends.rolled_back if ends.rolled_back.mean() > 0.5 else ends.promoted
    median = float(np.median(ends.requests[which])) if which.any() else float("inf")
    back, on = ends.rolled_back.mean(), ends.promoted.mean()
    return f"{back:.1%}, {on:.1%}, {number(median)}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=400, help="rollouts a cell")
    parser.add_argument("--check", action="store_true", help="print only")
    given = parser.parse_args(arguments)
    if not given.check:
        BLOCK.check()
    began, faults = time.process_time(), list[str]()
    table = "\n".join(rows(given.runs, faults))
    text = PAGE.format(
        rate=RATE,
        look=LOOK,
        hours=LOOKS * LOOK / 3600,
        errors=ERRORS,
        slow=SLOW,
        runs=given.runs,
        table=table,
        seconds=time.process_time() - began,
    )
    sys.stdout.write(text + "\n")
    if not given.check:
        BLOCK.write(text)
    if faults:
        sys.stderr.write(f"promise broken: {'; '.join(faults)}\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
