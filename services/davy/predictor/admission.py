"""Who may wait: how long a request would, and whether that is too long.

Belongs here: the estimate of a model's speed, the limits of the queue, the decision.
Not here: the queue itself (`davy.predictor.batcher`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from davy.core.errors import OverloadedError

# Weight of one execution against the next: the last fifty or so count.
DECAY = 0.98
# One execution counts as so many times what it was believed to take, at the most: where another
# process had the core meanwhile it took a hundred times as long, and the model is no slower for it.
# One that has become slower is believed after some dozens.
SURPRISE = 4.0
# Executions after which there is a belief.
KNOWN = 5.0
# Below this spread of batch sizes, what a call costs cannot be told from what a row costs.
SPREAD = 0.01
# Of the longest wait: the part of a turn of the event loop in which nobody is refused.
ANSWERING = 0.1


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be executed together and what may wait; times in seconds.

    Attributes
    ----------
    batch_rows : int
        Rows of requests that are merged, at most.
    batch_wait_seconds : float
        How long merged requests may execute, by estimate: what comes meanwhile waits that long.
    inline_seconds : float
        A request that is alone and takes no longer than this is not handed to the worker thread.
    queue_rows : int
        Rows that wait, at most.
    max_wait_seconds : float
        How long a request may wait, by estimate.
    """

    batch_rows: int = 256
    batch_wait_seconds: float = 0.02
    inline_seconds: float = 0.0005
    queue_rows: int = 50_000
    max_wait_seconds: float = 1.0


class Speed:
    """How long a model takes for a number of rows: a decaying fit of seconds to rows.

    A line, because a call costs something whatever its rows: seconds for each row alone would
    call a large request, of which each row costs little, a hundred times slower than it is.

    Examples
    --------
    >>> speed = Speed()
    >>> speed.observe(1, 0.002)
    >>> speed.observe(101, 0.003)
    >>> round(speed.seconds(51), 6)
    0.0025
    """

    __slots__ = ("_n", "_x", "_xx", "_xy", "_y", "per_call", "per_row")

    def __init__(self) -> None:
        self._n = self._x = self._y = self._xx = self._xy = 0.0
        self.per_call = 0.0
        self.per_row = 0.0

    def observe(self, rows: int, seconds: float) -> None:
        """Take in one execution."""
        if self._n >= KNOWN:
            seconds = min(seconds, SURPRISE * self.seconds(rows) or seconds)
        n = self._n = self._n * DECAY + 1.0
        x = self._x = self._x * DECAY + rows
        y = self._y = self._y * DECAY + seconds
        xx = self._xx = self._xx * DECAY + rows * rows
        xy = self._xy = self._xy * DECAY + rows * seconds
        spread = n * xx - x * x
        if spread > SPREAD * x * x:
            self.per_row = max(0.0, (n * xy - x * y) / spread)
        self.per_call = (y - self.per_row * x) / n
        if self.per_call < 0.0:
            self.per_call, self.per_row = 0.0, y / x

    def seconds(self, rows: int) -> float:
        """Return the estimate for one execution."""
        return self.per_call + self.per_row * rows

    def share(self, rows: int, batch_rows: int) -> float:
        """Return what `rows` add to the queue: their part of the batches that they will be in."""
        return self.per_row * rows + self.per_call * min(1.0, rows / batch_rows)


@dataclass(frozen=True, slots=True)
class Load:
    """What is ahead of a request: rows that wait, and seconds until it would be its turn."""

    rows: int
    seconds: float


def refuse(
    load: Load, rows: int, own_seconds: float, time_left: float | None, limits: Limits
) -> OverloadedError | None:
    """Return the error of a request that had better not wait, None when it may.

    Parameters
    ----------
    load : Load
        What is ahead of it.
    rows, own_seconds : int, float
        What it asks for, and the estimate for that alone.
    time_left : float, optional
        Seconds until its own deadline.
    limits : Limits
        The queue's bounds.

    Notes
    -----
    A request with nothing ahead of it is never refused: an estimate that is too high could not be
    corrected otherwise.

    Examples
    --------
    >>> refuse(Load(rows=0, seconds=0.0), 10_000_000, 60.0, 1.0, Limits()) is None
    True
    >>> refuse(Load(rows=10, seconds=3.2), 1, 0.1, None, Limits()).delay
    4
    """
    if load.rows == 0 and load.seconds <= 0.0:
        return None
    if load.seconds > limits.max_wait_seconds:
        what = f"{load.seconds:.2f} s of work wait, {limits.max_wait_seconds:g} s may"
    elif load.rows and load.rows + rows > limits.queue_rows:
        what = f"{load.rows} rows wait, {limits.queue_rows} may"
    elif time_left is not None and load.seconds + own_seconds > time_left:
        needed = load.seconds + own_seconds
        what = f"the answer would take {needed:.2f} s, the deadline leaves {max(0, time_left):.2f}"
    else:
        return None
    return _overloaded(what, load.seconds)


def behind(waited: float, in_turn: float, limits: Limits) -> OverloadedError | None:
    """Return the error of a request that the event loop comes to too late, None when in time.

    Parameters
    ----------
    waited : float
        Seconds that it may have waited for that.
    in_turn : float
        Seconds of that which are of the loop's present turn.
    limits : Limits
        ``max_wait_seconds`` is the bound.

    Notes
    -----
    A part of each turn answers whatever is waited: where clients are so many that reading and
    refusing them takes all of the bound, nobody would be answered otherwise.

    Examples
    --------
    >>> behind(0.4, 0.3, Limits(max_wait_seconds=0.5)) is None
    True
    >>> behind(0.6, 0.3, Limits(max_wait_seconds=0.5)).what
    'requests wait up to 0.60 s to be begun, 0.5 s is the most'
    """
    most = limits.max_wait_seconds
    if waited <= most or in_turn <= ANSWERING * most:
        return None
    return _overloaded(
        f"requests wait up to {waited:.2f} s to be begun, {most:g} s is the most", waited
    )


def _overloaded(what: str, seconds: float) -> OverloadedError:
    return OverloadedError(
        what,
        where="the predictor's queue",
        fix="Try again after the time in Retry-After",
        delay=max(1, math.ceil(seconds)),
    )
