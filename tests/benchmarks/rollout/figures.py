"""How figures of the rollout's benchmarks are written: shares with intervals, medians, tables.

Belongs here: that. Not here: what is measured, what a table holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import stats
from tests.benchmarks.rollout.streams import LOOK

PROMISE = 0.05


def interval(k: int, n: int) -> tuple[float, float]:
    """Clopper–Pearson, 95 %."""
    low = float(stats.beta.ppf(0.025, k, n - k + 1)) if k else 0.0
    high = float(stats.beta.ppf(0.975, k + 1, n - k)) if k < n else 1.0
    return low, high


def share(which: np.ndarray) -> str:
    """Return a share with its interval."""
    low, high = interval(int(which.sum()), which.size)
    return f"{which.mean():.1%} ({low:.1%}–{high:.1%})"


def broken(which: np.ndarray) -> bool:
    """Return whether more are wrong than the promise explains (99.9 %)."""
    return int(which.sum()) > float(stats.binom.ppf(0.999, which.size, PROMISE))


def median(values: np.ndarray, which: np.ndarray) -> float:
    """Return the median of some; infinite when there are none."""
    return float(np.median(values[which])) if which.any() else float("inf")


def number(value: float) -> str:
    """Return a median of requests as text."""
    return f"{value:,.0f}" if np.isfinite(value) else "–"


def duration(looks: np.ndarray, which: np.ndarray) -> str:
    """Return the median time until a look."""
    seconds = median((looks + 1) * LOOK, which)
    if not np.isfinite(seconds):
        return "–"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def header(cells: Sequence[str]) -> Iterator[str]:
    """Yield the head of a table."""
    yield row(cells)
    yield "|" + "---|" * len(cells)


def row(cells: Sequence[str]) -> str:
    """Return a row of a table."""
    return f"| {' | '.join(cells)} |"
