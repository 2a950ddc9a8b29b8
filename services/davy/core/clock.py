"""Time as a dependency that is passed in, so that tests can move it.

Belongs here: wall time, monotonic time, sleep. Not here: schedules and deadlines.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> datetime:
        """Return the wall time, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start; never goes back."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait for `seconds`."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """Return the wall time, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start; never goes back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait for `seconds`."""
        time.sleep(seconds)


@dataclass(slots=True)
class ManualClock:
    """A clock that moves only when it is told to; `sleep` moves it.

    Examples
    --------
    >>> clock = ManualClock(datetime(2017, 1, 1, tzinfo=UTC))
    >>> clock.sleep(30)
    >>> clock.now().isoformat()
    '2017-01-01T00:00:30+00:00'
    """

    time: datetime
    elapsed: float = 0.0

    def now(self) -> datetime:
        """Return the time that the clock was set to."""
        return self.time

    def monotonic(self) -> float:
        """Return the seconds that the clock was moved by."""
        return self.elapsed

    def sleep(self, seconds: float) -> None:
        """Move the clock by `seconds`."""
        self.time += timedelta(seconds=seconds)
        self.elapsed += seconds
