"""Executes requests: one that is alone at once, those that come while others run together.

Belongs here: the queue, the worker thread.
Not here: which requests make a round (`davy.predictor.rounds`), who may wait
(`davy.predictor.admission`), merging and splitting (`davy.predictor.work`).

Nothing waits for company: requests are merged only because they wait for a round that runs. A
request that is alone is executed in the event loop when it is short, because handing it to a
thread would take as long as the model does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from davy.core.clock import Clock
from davy.core.errors import DeadlineError, OverloadedError
from davy.core.logging import get_logger
from davy.predictor.admission import Limits, Load, behind, refuse
from davy.predictor.rounds import Ticket, choose
from davy.predictor.turns import Turns
from davy.predictor.work import Outputs, Work, group, put_together, take_apart

# Rounds that are handed to the worker thread at once. To hand over takes microseconds, and tens of
# milliseconds where other processes want the cores too: then it decides how many are answered.
ROUNDS = 8
# Weight of one hand-over against those before it.
NEWEST = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    work: Work
    ticket: Ticket
    # Its part of a hand-over, by estimate.
    turn: float
    read: float
    answer: asyncio.Future[Outputs]


@dataclass(frozen=True, slots=True)
class Executed:
    """What a round came to: an answer or an error for each job, rows and seconds of each run."""

    answers: tuple[Outputs | Exception, ...]
    runs: tuple[tuple[int, float], ...]


class Batcher:
    """One queue and one worker thread for all models of a process.

    Parameters
    ----------
    limits : Limits
        Bounds of rounds and of the queue.
    clock : Clock
        Times of arrival, deadlines, durations.
    """

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="davy-model")
        self._queue: list[_Job] = []
        self._queued = Load(0, 0.0)
        # Hand-overs that those in the queue need.
        self._turns = 0.0
        self._running = False
        self._began = self._ends = 0.0
        # What a hand-over takes beyond the execution.
        self._handing = 0.0
        self._after_large = False

    async def run(
        self, work: Work, deadline: float | None = None, read: float | None = None
    ) -> Outputs:
        """Execute `work` and return its outputs.

        Parameters
        ----------
        work : Work
            The request.
        deadline : float, optional
            When nobody waits for it any more, on the monotonic clock.
        read : float, optional
            When the event loop had read it, on the same clock: since then it waits. Now if absent.

        Raises
        ------
        OverloadedError
            Too much is ahead of it.
        DeadlineError
            Its deadline passed while it waited.
        PermanentError
            The model cannot execute it.
        """
        if self.is_short(work, work.rows):
            return self.at_once(work, read)
        started = self._clock.monotonic()
        read = started if read is None else read
        speed = work.model.speed
        own = speed.seconds(work.rows)
        left = None if deadline is None else deadline - started
        error = refuse(self._load(started), work.rows, own, left, self._limits)
        if error is not None:
            raise error
        share = speed.share(work.rows, self._limits.batch_rows)
        ticket = Ticket(group(work), work.rows, share, started, deadline)
        turn = part_of_turn(work.rows, share, self._limits)
        job = _Job(work, ticket, turn, read, asyncio.get_running_loop().create_future())
        self._queue.append(job)
        self._queued = Load(self._queued.rows + work.rows, self._queued.seconds + share)
        self._turns += turn
        if not self._running:
            self._begin()
        return await job.answer

    def is_short(self, work: Work, rows: int) -> bool:
        """Tell whether so many rows of such work may be executed in the event loop now."""
        return not self._running and (work.model.speed.seconds(rows) <= self._limits.inline_seconds)

    def at_once(self, work: Work, read: float | None, requests: int = 1) -> Outputs:
        """Execute short work in the event loop.

        Parameters
        ----------
        work : Work
            One request, or several whose rows were put together.
        read : float, optional
            When the event loop had read them, on the monotonic clock: now if absent.
        requests : int
            How many they are.

        Raises
        ------
        PermanentError
            The model cannot execute it.
        """
        started = self._clock.monotonic()
        tensors = work.model.run(work.feed, work.outputs)
        work.model.speed.observe(work.rows, self._clock.monotonic() - started)
        work.metrics.executed(work.rows)
        work.metrics.waited(0.0 if read is None else started - read, requests)
        return tensors

    def refusal(self, turns: Turns) -> OverloadedError | None:
        """Return why a request would be refused whatever it asks for, None when it would not.

        Asked before a body is read: what is shed must cost next to nothing.

        Parameters
        ----------
        turns : Turns
            Tell how long it may have waited for the event loop.
        """
        now = self._clock.monotonic()
        error = behind(now - turns.earliest, now - turns.began(), self._limits)
        if error is not None or not self._running:
            return error
        return refuse(self._load(now), 0, 0.0, None, self._limits)

    def close(self) -> None:
        """End the worker thread once it has finished what it runs."""
        self._pool.shutdown(wait=False)

    def _load(self, now: float) -> Load:
        running = max(0.0, self._ends - now) if self._running else 0.0
        queued = self._queued
        return Load(queued.rows, queued.seconds + running + self._turns * self._handing)

    def _begin(self) -> None:
        """Hand the next rounds to the worker, if anybody waits."""
        now = self._clock.monotonic()
        rounds = self._next_rounds(now)
        self._queued = Load(
            sum(job.ticket.rows for job in self._queue),
            sum(job.ticket.seconds for job in self._queue),
        )
        self._turns = sum(job.turn for job in self._queue)
        self._running = bool(rounds)
        if not rounds:
            return
        self._began = now
        self._ends = now + self._handing + sum(map(_seconds, rounds))
        works = [[job.work for job in jobs] for jobs in rounds]
        try:
            running = asyncio.get_running_loop().run_in_executor(
                self._pool, _execute_all, works, self._clock
            )
        except RuntimeError as error:
            # No thread can be had: nothing runs, and who comes next tries again.
            self._running = False
            _fail(rounds, error)
            return
        running.add_done_callback(lambda done: self._finish(rounds, done))

    def _next_rounds(self, now: float) -> list[list[_Job]]:
        """Take from the queue what is executed next: rounds that are short together, or one."""
        # A job whose request is gone (its connection or its call was cancelled) is not executed.
        queue = [job for job in self._queue if not job.answer.done()]
        rounds: list[list[_Job]] = []
        left = self._limits.batch_wait_seconds
        while queue and len(rounds) < ROUNDS:
            tickets = [job.ticket for job in queue]
            chosen = choose(tickets, now, self._limits, after_large=self._after_large)
            jobs = [queue[index] for index in chosen.batch]
            # Nobody's answer waits for a long round that came after his. Many rows are not long
            # of themselves: where a hand-over is slow, each alone would take longer than all.
            if rounds and jobs and _seconds(jobs) > left:
                break
            for index in chosen.expired:
                queue[index].answer.set_exception(
                    DeadlineError("it passed while the request waited", where="the deadline")
                )
            taken = {*chosen.batch, *chosen.expired}
            queue = [job for index, job in enumerate(queue) if index not in taken]
            self._after_large = chosen.large
            if jobs:
                rounds.append(jobs)
                left -= _seconds(jobs)
        self._queue = queue
        return rounds

    def _finish(
        self, rounds: Sequence[Sequence[_Job]], done: asyncio.Future[list[Executed]]
    ) -> None:
        began = self._began
        spent = self._clock.monotonic() - began
        try:
            results = done.result()
            for jobs, executed in zip(rounds, results, strict=True):
                _answer(jobs, executed)
                for rows, seconds in executed.runs:
                    jobs[0].work.model.speed.observe(rows, seconds)
                    spent -= seconds
            self._handing += NEWEST * (max(0.0, spent) - self._handing)
            # Last: what cannot be counted is answered.
            for jobs, executed in zip(rounds, results, strict=True):
                for rows, _ in executed.runs:
                    jobs[0].work.metrics.executed(rows)
                for job in jobs:
                    job.work.metrics.waited(began - job.read)
        except Exception as error:
            get_logger("predictor").error("executions were not counted", exc_info=error)
            _fail(rounds, error)
        finally:
            # Whatever it was, those behind it are executed.
            self._begin()


def _seconds(jobs: Sequence[_Job]) -> float:
    return jobs[0].work.model.speed.seconds(sum(job.work.rows for job in jobs))


def part_of_turn(rows: int, seconds: float, limits: Limits) -> float:
    """Return the part of a hand-over that so many rows need, of so many seconds' execution.

    Examples
    --------
    >>> part_of_turn(32, 0.0001, Limits(batch_rows=256))
    0.015625
    >>> part_of_turn(1000, 0.001, Limits(batch_rows=256))
    0.125
    >>> part_of_turn(1000, 3.0, Limits(batch_rows=256))
    1.0
    """
    # At most one round of its own, and at most one hand-over: what is long goes alone.
    rounds = min(1.0, rows / limits.batch_rows)
    return min(1.0, max(rounds / ROUNDS, seconds / limits.batch_wait_seconds))


def _answer(jobs: Sequence[_Job], executed: Executed) -> None:
    for job, answer in zip(jobs, executed.answers, strict=True):
        if job.answer.done():
            continue
        if isinstance(answer, Exception):
            job.answer.set_exception(answer)
        else:
            job.answer.set_result(answer)


def _fail(rounds: Sequence[Sequence[_Job]], error: Exception) -> None:
    """Tell those that have no answer why."""
    for jobs in rounds:
        for job in jobs:
            if not job.answer.done():
                job.answer.set_exception(error)


def _execute_all(rounds: Sequence[Sequence[Work]], clock: Clock) -> list[Executed]:
    return [execute(works, clock) for works in rounds]


def execute(works: Sequence[Work], clock: Clock) -> Executed:
    """Execute works of one group together; alone when that fails, so that one fails alone."""
    if len(works) > 1:
        started = clock.monotonic()
        try:
            whole = put_together(works)
            answers = take_apart(whole.model.run(whole.feed, whole.outputs), works)
        except Exception:  # noqa: S110 (whose fault it is shows when each runs alone)
            pass
        else:
            return Executed(tuple(answers), ((whole.rows, clock.monotonic() - started),))
    results: list[Outputs | Exception] = []
    runs = []
    for work in works:
        started = clock.monotonic()
        try:
            results.append(work.model.run(work.feed, work.outputs))
        except Exception as error:
            results.append(error)
        else:
            runs.append((work.rows, clock.monotonic() - started))
    return Executed(tuple(results), tuple(runs))
