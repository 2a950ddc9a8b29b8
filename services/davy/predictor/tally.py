"""Counts kept in the process, and handed to prometheus_client now and then.

Belongs here: adding up between two hand-overs, and when those are.
Not here: which metrics there are (`davy.predictor.families`), what a request counts
(`davy.predictor.metrics`).

In its multi-process mode, prometheus_client takes a lock, asks the system for the process's id and
writes to a mapped file at each increment: the eight of a request took a fifth of its time. Here an
increment is an addition. A scrape that this process answers hands over first; one that another
worker answers finds counts that are `DELAY_SECONDS` old at most, and so does a killed process's.

All of it belongs to the thread of the event loop.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Iterable

from prometheus_client import Counter, Histogram
from prometheus_client.metrics_core import Metric

DELAY_SECONDS = 0.1


class Tallies:
    """All tallies of a process; registered as a collector, it hands over before others are read."""

    def __init__(self) -> None:
        # One for each child: a package that is loaded again binds the same ones again.
        self._counters: dict[Counter, CounterTally] = {}
        self._histograms: dict[Histogram, HistogramTally] = {}
        self._due = False

    def counter(self, child: Counter) -> CounterTally:
        """Return the tally of a bound child."""
        tally = self._counters.get(child)
        if tally is None:
            tally = self._counters[child] = CounterTally(child, self.changed)
        return tally

    def histogram(self, child: Histogram) -> HistogramTally:
        """Return the tally of a bound child."""
        tally = self._histograms.get(child)
        if tally is None:
            tally = self._histograms[child] = HistogramTally(child, self.changed)
        return tally

    def changed(self) -> None:
        """See to it that what was counted is handed over; at once where no event loop runs."""
        # Nothing more: even to ask for the loop is a system call.
        if self._due:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
            return
        self._due = True
        loop.call_later(DELAY_SECONDS, self.flush)

    def flush(self) -> None:
        """Hand everything over."""
        self._due = False
        for counter in self._counters.values():
            counter.flush()
        for histogram in self._histograms.values():
            histogram.flush()

    def describe(self) -> Iterable[Metric]:
        """Return nothing: it has no metrics of its own."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Hand over, and return nothing."""
        self.flush()
        return ()


class CounterTally:
    """A counter's increments since the last hand-over."""

    __slots__ = ("_changed", "_child", "_count")

    def __init__(self, child: Counter, changed: Callable[[], None]) -> None:
        self._child = child
        self._changed = changed
        self._count = 0

    def inc(self, amount: int = 1) -> None:
        """Count."""
        self._count += amount
        self._changed()

    def flush(self) -> None:
        """Hand over."""
        if self._count:
            self._child.inc(self._count)
            self._count = 0


class HistogramTally:
    """A histogram's observations since the last hand-over."""

    __slots__ = ("_bounds", "_changed", "_child", "_counts", "_sum", "_taken")

    def __init__(self, child: Histogram, changed: Callable[[], None]) -> None:
        self._child = child
        self._changed = changed
        # prometheus_client has no public way to add several observations at once.
        self._bounds: list[float] = child._upper_bounds
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0
        self._taken = False

    def observe(self, amount: float, times: int = 1) -> None:
        """Count an observation, or several of the same amount."""
        self._counts[bisect_left(self._bounds, amount)] += times
        self._sum += amount * times
        self._taken = True
        self._changed()

    def flush(self) -> None:
        """Hand over."""
        if not self._taken:
            return
        self._child._sum.inc(self._sum)
        for place, count in enumerate(self._counts):
            if count:
                self._child._buckets[place].inc(count)
                self._counts[place] = 0
        self._sum = 0.0
        self._taken = False
