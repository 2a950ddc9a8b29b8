"""Rows into windows: a request's row meets its score, and so many rows make a window.

Belongs here: the windower of one model version; time is passed in. Not here: events, tests.

Memory is bounded: at most `Windower.pending` requests and as many responses wait, the oldest
giving way, and a window never holds more rows than it needs. A crash loses the window that was
being filled, and nothing else.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import numpy as np

from davy.drift.distance import FeatureWindow, Values
from davy.protocol.names import SCORE

Refusal = Literal["duplicate", "late"]
"""Why an event is of no use: it was told before; its request had stopped waiting for it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One request's row of feature values, at the time of its event."""

    time: datetime
    values: Mapping[str, float | int]


@dataclass(frozen=True, slots=True)
class Window:
    """A window that ended: its columns, and the span of its events' times.

    ``scored`` is the number of rows whose response was found; the others have NaN for a score.
    """

    columns: FeatureWindow
    rows: int
    scored: int
    start: datetime
    end: datetime


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
    join_seconds : float
        How long a row waits for its score.
    pending : int
        Requests, and responses, that may wait at once.
    """

    categories: Mapping[str, bool]
    window_rows: int
    window_seconds: float
    join_seconds: float
    pending: int
    _requests: OrderedDict[str, tuple[float, Row]] = field(default_factory=OrderedDict)
    _responses: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)
    # Settled ids, and whether their response has come.
    _seen: OrderedDict[str, bool] = field(default_factory=OrderedDict)
    _rows: list[tuple[Row, float]] = field(default_factory=list)
    _opened: float = 0.0
    _orphans: int = 0

    @property
    def rows(self) -> int:
        """Rows in the window that is being filled."""
        return len(self._rows)

    @property
    def waiting(self) -> int:
        """Rows that wait for their score."""
        return len(self._requests)

    def request(self, event_id: str, row: Row, now: float) -> Refusal | None:
        """Take a request's row at monotonic time `now`, or return why not."""
        if event_id in self._requests or event_id in self._seen:
            return "duplicate"
        if event_id in self._responses:
            _, score = self._responses.pop(event_id)
            self._settle(event_id, row, score, now)
        else:
            self._requests[event_id] = (now, row)
        return None

    def response(self, event_id: str, score: float, now: float) -> Refusal | None:
        """Take a response's score at monotonic time `now`, or return why not."""
        if event_id in self._responses or self._seen.get(event_id, False):
            return "duplicate"
        if event_id in self._seen:
            self._seen[event_id] = True
            return "late"
        if event_id in self._requests:
            _, row = self._requests.pop(event_id)
            self._settle(event_id, row, score, now)
        else:
            self._responses[event_id] = (now, score)
            while len(self._responses) > self.pending:
                self._responses.popitem(last=False)
                self._orphans += 1
        return None

    def take_orphans(self) -> int:
        """Return how many responses were let go without a request since this was last asked."""
        found, self._orphans = self._orphans, 0
        return found

    def pop(self, now: float) -> Window | None:
        """Return a window that has ended by monotonic time `now`, and begin the next."""
        self._expire(now)
        old = bool(self._rows) and now - self._opened >= self.window_seconds
        if len(self._rows) < self.window_rows and not old:
            return None
        taken, self._rows = self._rows[: self.window_rows], self._rows[self.window_rows :]
        self._opened = now
        return _window(taken, self.categories)

    def _expire(self, now: float) -> None:
        while self._requests:
            event_id, (came, row) = next(iter(self._requests.items()))
            if now - came < self.join_seconds and len(self._requests) <= self.pending:
                break
            del self._requests[event_id]
            self._settle(event_id, row, None, now)
        while self._responses:
            event_id, (came, _) = next(iter(self._responses.items()))
            if now - came < self.join_seconds:
                break
            del self._responses[event_id]
            self._orphans += 1

    def _settle(self, event_id: str, row: Row, score: float | None, now: float) -> None:
        if not self._rows:
            self._opened = now
        self._rows.append((row, math.nan if score is None else score))
        self._seen[event_id] = score is not None
        while len(self._seen) > self.pending:
            self._seen.popitem(last=False)


def _window(taken: Sequence[tuple[Row, float]], categories: Mapping[str, bool]) -> Window:
    columns: dict[str, Values] = {
        name: np.array([row.values[name] for row, _ in taken], np.int64 if category else float)
        for name, category in categories.items()
    }
    columns[SCORE] = np.array([score for _, score in taken], float)
    times = [row.time for row, _ in taken]
    scored = int(np.isfinite(columns[SCORE]).sum())
    return Window(columns, len(taken), scored, min(times), max(times))
