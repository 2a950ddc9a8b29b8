"""From single measurements to what the tables say.

Belongs here: percentiles, ratios within a round, their spread. Not here: measuring, writing.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cell:
    """One server asked for one case in one round.

    Attributes
    ----------
    requests : int
        Requests that were answered 200: nothing else is a server's throughput or latency.
    failed : int
        Requests that were answered otherwise, or not at all.
    cpu_seconds : float
        Processor seconds of the server, those for failed requests too.
    p50, p99 : float
        Seconds of the requests that were answered 200; not a number where there are none.
    """

    server: str
    case: str
    round: int
    requests: int
    failed: int
    seconds: float
    cpu_seconds: float
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        """Requests answered 200 a second."""
        return self.requests / self.seconds

    @property
    def cpu(self) -> float:
        """Processor seconds of the server for a request answered 200."""
        return self.cpu_seconds / self.requests


@dataclass(frozen=True, slots=True)
class Spread:
    """A median, and the least and the greatest of the rounds."""

    median: float
    low: float
    high: float


Quantity = Callable[[Cell], float]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of the values do not exceed; of no values, not a number.

    Examples
    --------
    >>> percentile([4.0, 1.0, 3.0, 2.0], 0.5), percentile([4.0, 1.0, 3.0, 2.0], 0.99)
    (2.0, 4.0)
    """
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def spread(values: Iterable[float]) -> Spread | None:
    """Return the spread of some values, None of none."""
    found = sorted(values)
    if not found:
        return None
    return Spread(statistics.median(found), found[0], found[-1])


def of(cells: Iterable[Cell], server: str, case: str) -> dict[int, Cell]:
    """Return a server's cells of a case by their round, those without any answer left out."""
    return {c.round: c for c in cells if c.server == server and c.case == case and c.requests}


def absolute(cells: Sequence[Cell], server: str, case: str, what: Quantity) -> Spread | None:
    """Return a quantity over the rounds."""
    return spread(what(cell) for cell in of(cells, server, case).values())


def ratio(
    cells: Sequence[Cell], server: str, baseline: str, case: str, what: Quantity
) -> Spread | None:
    """Return a server's quantity over the baseline's, each taken within one round.

    Within: what else the machine does changes from round to round, and both suffer from it alike.
    """
    ours = of(cells, server, case)
    theirs = of(cells, baseline, case)
    return spread(what(ours[number]) / what(theirs[number]) for number in ours if number in theirs)
