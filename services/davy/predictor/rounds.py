"""Who is next: which waiting requests are executed together.

Belongs here: choosing one round from the queue, purely.
Not here: executing it (`davy.predictor.batcher`), who may wait (`davy.predictor.admission`).

The oldest request starts a round; younger ones that may be executed with it join in order of
arrival while the budget of rows and of seconds lasts. One that is larger than the budget runs
alone, and after it the oldest that is not goes first: neither large requests nor small ones wait
for more than one of the others, and none is passed over by a younger one of its own kind.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from davy.predictor.admission import Limits


@dataclass(frozen=True, slots=True)
class Ticket:
    """A request's place in the queue.

    Attributes
    ----------
    group : hashable
        Only requests of one group may be executed together; None executes alone.
    rows : int
        Its rows.
    seconds : float
        Its share of a batch's time, by estimate.
    arrived : float
        When it began to wait, on the monotonic clock.
    deadline : float, optional
        When nobody waits for it any more, on the same clock.
    """

    group: Hashable
    rows: int
    seconds: float
    arrived: float
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """Indices of the tickets to execute together, and of those that are too late.

    ``large``: the round is a single request beyond the budget.
    """

    batch: tuple[int, ...]
    expired: tuple[int, ...]
    large: bool = False


def choose(waiting: Sequence[Ticket], now: float, limits: Limits, *, after_large: bool) -> Round:
    """Choose the next round.

    Parameters
    ----------
    waiting : sequence of Ticket
        The queue, oldest first.
    now : float
        The time on the monotonic clock.
    limits : Limits
        ``batch_rows`` and ``batch_wait_seconds`` are the budget.
    after_large : bool
        The round before was a large one.

    Examples
    --------
    >>> queue = [Ticket("m", rows, rows / 1e4, 0.0) for rows in (200, 900, 50, 10)]
    >>> choose(queue, 1.0, Limits(batch_rows=256, batch_wait_seconds=1), after_large=False)
    Round(batch=(0, 2), expired=(), large=False)
    """
    expired: list[int] = []
    alive: list[int] = []
    for index, ticket in enumerate(waiting):
        late = ticket.deadline is not None and now > ticket.deadline
        (expired if late else alive).append(index)
    if not alive:
        return Round((), tuple(expired))
    first = alive[0]
    if after_large:
        first = next((i for i in alive if not _large(waiting[i], limits)), first)
    head = waiting[first]
    if _large(head, limits):
        return Round((first,), tuple(expired), large=True)
    batch = [first]
    rows = limits.batch_rows - head.rows
    seconds = limits.batch_wait_seconds - head.seconds
    for index in alive:
        if rows <= 0 or head.group is None:
            break
        ticket = waiting[index]
        fits = ticket.rows <= rows and ticket.seconds <= seconds
        if index != first and fits and ticket.group == head.group:
            batch.append(index)
            rows -= ticket.rows
            seconds -= ticket.seconds
    return Round(tuple(batch), tuple(expired))


def _large(ticket: Ticket, limits: Limits) -> bool:
    return ticket.rows > limits.batch_rows or ticket.seconds > limits.batch_wait_seconds
