"""Rows into windows: so many rows, in the order of their events' times, make a window.

Belongs here: the windower of one model version; time is passed in. Not here: events and their
pairing, tests.

Rows come a little out of order. Each is held for ``lateness_seconds``, of the events' time or of
the clock's, and goes into its window by its event's time; one that comes later still goes into the
window that is open then, and is counted. A window holds no more rows than it needs.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np

from davy.drift.distance import FeatureWindow, Values
from davy.protocol.names import SCORE


@dataclass(frozen=True, slots=True)
class Row:
    """One request's row of feature values, at the time of its event; NaN where it has no score.

    ``number`` is the ledger's.
    """

    time: datetime
    values: Mapping[str, float | int]
    score: float = math.nan
    number: int = 0


@dataclass(frozen=True, slots=True)
class Window:
    """A window that ended: its columns, and the span of its events' times.

    ``scored`` is the number of rows whose response was found; the others have NaN for a score.
    ``numbers`` are those of its rows in the ledger.
    """

    columns: FeatureWindow
    rows: int
    scored: int
    start: datetime
    end: datetime
    numbers: tuple[int, ...] = ()


class _Held(NamedTuple):
    time: datetime
    turn: int
    came: float
    row: Row


@dataclass(slots=True)
class Windower:
    """Collects the rows of one model version.

    Parameters
    ----------
    categories : mapping of str to bool
        The features, and which of them are integers.
    window_rows : int
        Rows of a full window.
    window_seconds : float
        Age at which a window ends though it is not full.
    lateness_seconds : float
        How long a row may come after one of a later time and still stand before it.
    """

    categories: Mapping[str, bool]
    window_rows: int
    window_seconds: float
    lateness_seconds: float = 0.0
    _held: list[_Held] = field(default_factory=list)
    _rows: list[Row] = field(default_factory=list)
    _opened: float = 0.0
    _turn: int = 0
    _newest: datetime | None = None
    _released: datetime | None = None
    _late: int = 0

    @property
    def rows(self) -> int:
        """Rows in the window that is being filled."""
        return len(self._rows) + len(self._held)

    def add(self, row: Row, now: float) -> None:
        """Take a row at monotonic time `now`."""
        if not self.rows:
            self._opened = now
        self._turn += 1
        if self._released is not None and row.time < self._released:
            self._late += 1
        heapq.heappush(self._held, _Held(row.time, self._turn, now, row))
        if self._newest is None or row.time > self._newest:
            self._newest = row.time

    def take_late(self) -> int:
        """Return how many rows came too late for their place since this was last asked."""
        found, self._late = self._late, 0
        return found

    def pop(self, now: float) -> Window | None:
        """Return a window that has ended by monotonic time `now`, and begin the next."""
        old = self.rows > 0 and now - self._opened >= self.window_seconds
        self._release(now, everything=old)
        if len(self._rows) < self.window_rows and not old:
            return None
        taken, self._rows = self._rows[: self.window_rows], self._rows[self.window_rows :]
        self._opened = now
        return _window(taken, self.categories)

    def _release(self, now: float, *, everything: bool) -> None:
        if self._newest is None:
            return
        lateness = self.lateness_seconds
        held = timedelta(seconds=lateness)
        while self._held and len(self._rows) < self.window_rows:
            first = self._held[0]
            ripe = self._newest - first.time >= held or now - first.came >= lateness
            # No more than a window's rows: events that repeat one time would be held for ever.
            if not (everything or ripe or len(self._held) > self.window_rows):
                break
            heapq.heappop(self._held)
            self._rows.append(first.row)
            if self._released is None or first.time > self._released:
                self._released = first.time


def _window(taken: Sequence[Row], categories: Mapping[str, bool]) -> Window:
    columns: dict[str, Values] = {
        name: np.array([row.values[name] for row in taken], np.int64 if category else float)
        for name, category in categories.items()
    }
    columns[SCORE] = np.array([row.score for row in taken], float)
    times = [row.time for row in taken]
    scored = int(np.isfinite(columns[SCORE]).sum())
    numbers = tuple(row.number for row in taken)
    return Window(columns, len(taken), scored, min(times), max(times), numbers)
