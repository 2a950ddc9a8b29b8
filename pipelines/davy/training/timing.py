"""How long things take, measured side by side in one run.

Belongs here: taking turns, and the interval of what was found. Not here: what is measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from scipy import stats

from davy.core.clock import Clock
from davy.packaging.contract import Interval

ROUNDS = 60
RUNS_PER_ROUND = 8
WARM_UP_RUNS = 20

Floats = npt.NDArray[np.float64]


def side_by_side(runs: Mapping[str, Callable[[], object]], clock: Clock) -> dict[str, Floats]:
    """Return seconds a call of each of `runs`, one value a round.

    They take turns within a round, starting with another one each time, so that a busy moment of
    the machine meets all of them. A round's value is its fastest call: what a neighbour takes
    from the processor is no property of what is measured.
    """
    names = list(runs)
    for name in names:
        for _ in range(WARM_UP_RUNS):
            runs[name]()
    times = {name: np.empty(ROUNDS) for name in names}
    for turn in range(ROUNDS):
        for offset in range(len(names)):
            name = names[(turn + offset) % len(names)]
            run = runs[name]
            fastest = math.inf
            for _ in range(RUNS_PER_ROUND):
                started = clock.monotonic()
                run()
                fastest = min(fastest, clock.monotonic() - started)
            times[name][turn] = fastest
    return times


def median_interval(values: Floats, *, level: float = 0.95) -> Interval:
    """Return the median with its distribution-free interval from order statistics.

    The number of values below the true median is Binomial(n, 1/2), whatever the distribution
    (David and Nagaraja, "Order statistics", 2003, section 7.1).

    Examples
    --------
    >>> found = median_interval(np.arange(1.0, 101.0))
    >>> found.value, found.lower, found.upper
    (50.5, 40.0, 61.0)
    """
    ordered = np.sort(values)
    count = ordered.size
    low = max(0, int(stats.binom.ppf((1.0 - level) / 2.0, count, 0.5)) - 1)
    return Interval(
        value=float(np.median(ordered)),
        lower=float(ordered[low]),
        upper=float(ordered[count - 1 - low]),
        n=count,
        level=level,
    )
