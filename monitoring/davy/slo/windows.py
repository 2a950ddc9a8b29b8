"""Multi-window, multi-burn-rate alerting: how fast a budget may be spent before who is told.

Belongs here: the table and its arithmetic. Not here: queries.

The shares and windows are those of The Site Reliability Workbook (Google, 2018), chapter 5,
"Multiwindow, Multi-Burn-Rate Alerts".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

Severity = Literal["page", "ticket"]

# At this many bad events in the long window a rate is no accident any more.
BAD_EVENTS = 5


@dataclass(frozen=True, slots=True)
class Burn:
    """Alert when ``share`` of the budget is spent within ``long`` and still is within ``short``."""

    severity: Severity
    share: float
    long: timedelta
    short: timedelta

    def rate(self, period: timedelta) -> float:
        """Return the burn rate: 1 spends the budget exactly in the period.

        Examples
        --------
        >>> round(BURNS[0].rate(timedelta(days=30)), 6)
        14.4
        """
        return self.share * (period / self.long)

    def threshold(self, target: float, period: timedelta) -> float:
        """Return the share of bad events above which it alerts; may be 1 or more, then never.

        Examples
        --------
        >>> round(BURNS[0].threshold(0.999, timedelta(days=30)), 6)
        0.0144
        """
        return self.rate(period) * (1 - target)

    def minimum(self, target: float, period: timedelta) -> int:
        """Return how many events make `BAD_EVENTS` bad ones at the threshold.

        Examples
        --------
        >>> BURNS[0].minimum(0.999, timedelta(days=30))
        348
        """
        return math.ceil(BAD_EVENTS / min(1.0, self.threshold(target, period)) - 1e-9)


def _hours(hours: float) -> timedelta:
    return timedelta(hours=hours)


BURNS: tuple[Burn, ...] = (
    Burn("page", 0.02, _hours(1), _hours(1 / 12)),
    Burn("page", 0.05, _hours(6), _hours(1 / 2)),
    Burn("ticket", 0.10, _hours(24), _hours(2)),
    Burn("ticket", 0.10, _hours(72), _hours(6)),
)


def windows() -> tuple[timedelta, ...]:
    """Return every window of the table, the shortest first."""
    return tuple(sorted({window for burn in BURNS for window in (burn.long, burn.short)}))


def text(duration: timedelta) -> str:
    """Return a duration in Prometheus's words.

    Examples
    --------
    >>> text(timedelta(minutes=30)), text(timedelta(hours=36)), text(timedelta(days=30))
    ('30m', '36h', '30d')
    """
    seconds = round(duration.total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
