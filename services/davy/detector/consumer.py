"""What was acknowledged, in order: paired, windowed and counted, one transaction a batch.

Belongs here: the order of things, and what is done again after a restart. Not here: each of them.
"""

from __future__ import annotations

import asyncio
import sqlite3
import traceback
from collections.abc import Iterable, Sequence
from typing import Any

from davy.core.clock import Clock
from davy.core.errors import InvalidInputError
from davy.core.logging import get_logger
from davy.detector.archiver import Archiver, NoArchive
from davy.detector.intake import Entry, Intake
from davy.detector.joiner import Joiner
from davy.detector.journal import Journal
from davy.detector.labels import read_labels
from davy.detector.ledger import Ledger
from davy.detector.metrics import DetectorMetrics
from davy.detector.pairing import Exchange, Half, OnPair, Pair, Pairing, pair_key
from davy.detector.records import Record, Told, decode_record, read_events, with_samples
from davy.detector.watcher import Watcher

TICK_SECONDS = 1.0
BATCH = 512
# The ledger's meta: from where on the journal is read again at the start.
FLOOR = "floor"


def read_entry(record: Record, place: int, end: int) -> Entry:
    """Return what a record of the journal holds.

    Raises
    ------
    InvalidInputError
        It is malformed, as this Davy reads it.
    """
    if record.kind == "labels":
        labels = read_labels(record.body, received=record.received)
        return Entry(place, end, labels=labels)
    return Entry(place, end, with_samples(read_events(record)))


def nobody(_: object) -> None:
    """Hear of a pair, and do nothing."""


class Consumer:
    """Takes what the intake holds, until cancelled.

    Parameters
    ----------
    intake : Intake
        Where it comes from.
    journal : Journal
        Where it is read again after a restart.
    ledger : Ledger
        Where it is counted.
    pairing : Pairing
        Brings requests and responses together.
    watcher : Watcher
        Windows and tests what was paired.
    joiner : Joiner
        Joins labels to what was answered.
    archiver : Archiver or NoArchive
        Writes what was told.
    metrics : DetectorMetrics
        Shows what was counted, once it is committed.
    clock : Clock
        Wall and monotonic time.
    on_pair : callable
        Hears of every pair of a watched version, ahead of the windows.
    """

    def __init__(
        self,
        intake: Intake,
        journal: Journal,
        ledger: Ledger,
        pairing: Pairing,
        watcher: Watcher,
        joiner: Joiner,
        archiver: Archiver | NoArchive,
        metrics: DetectorMetrics,
        clock: Clock,
        on_pair: OnPair = nobody,
    ) -> None:
        self._intake = intake
        self._journal = journal
        self._ledger = ledger
        self._pairing = pairing
        self._watcher = watcher
        self._joiner = joiner
        self._archiver = archiver
        self._metrics = metrics
        self._clock = clock
        self._on_pair = on_pair
        self._log = get_logger("detector")
        self._metrics.counted(ledger.counters())

    async def run(self) -> None:
        """Recover, then take entries until cancelled; also ends what only grows old."""
        await self.recover()
        ticked = self._clock.monotonic()
        while True:
            if self._archiver.full:  # what comes meanwhile waits, and then is refused
                await asyncio.sleep(TICK_SECONDS)
            elif entries := await self._intake.take(BATCH, TICK_SECONDS):
                await self.apply(entries)
                self._intake.release(entries)
            if self._clock.monotonic() - ticked >= TICK_SECONDS:
                ticked = self._clock.monotonic()
                await self.tick()

    async def recover(self) -> None:
        """Read again what may not have been counted, or waited for its other half."""
        self._archiver.recover()
        floor = int(self._ledger.get(FLOOR) or 0)
        events = 0
        batch: list[Entry] = []
        for frame in self._journal.read(floor):
            try:
                entry = read_entry(decode_record(frame.content), frame.place, frame.end)
            except InvalidInputError as error:  # written by another version
                self._log.error("record_not_recovered", place=frame.place, error=str(error))
                continue
            batch.append(entry)
            events += len(entry.events)
            if sum(entry.items for entry in batch) >= BATCH:
                await self.apply(batch)
                batch = []
                await self._archiver.tick()  # or all of a long journal would wait to be written
        if batch:
            await self.apply(batch)
        if events:
            self._log.info("recovered", events=events)

    async def apply(self, entries: Sequence[Entry]) -> None:
        """Count what entries hold, all or nothing."""
        with self._ledger.transaction():
            position = self._ledger.position
            self._ledger.prepare(pair_key(event) for one in entries for event, _ in one.events)
            for entry in entries:
                if entry.place >= position:  # else they were counted before a restart
                    for label in entry.labels:
                        self._joiner.label(label, self._clock.now())
                for index, told in enumerate(entry.events):
                    # A frame is longer than it holds events: no place is given twice.
                    await self._take(told, entry.place + index)
            self._ledger.position = max(position, entries[-1].end)
            rises = self._ledger.rises()
        self._metrics.counted(rises)

    async def tick(self) -> None:
        """End what has grown old, and let go of what is done with."""
        await self._archiver.tick()
        with self._ledger.transaction():
            await self._settle(self._pairing.expire(self._clock.monotonic()))
            if orphans := self._pairing.take_orphans():
                self._metrics.dropped.labels("orphan").inc(orphans)
            await self._watcher.tick()
            self._joiner.tick(self._clock.now())
            self._ledger.prune()
            floor = self._floor()
            self._ledger.set(FLOOR, str(floor))
            rises = self._ledger.rises()
        self._metrics.counted(rises)
        await asyncio.to_thread(self._journal.trim, floor)
        self._intake.trimmed()

    def report(self) -> dict[str, Any]:
        """Return what GET /windows shows; see `davy.detector.report`."""
        return self._watcher.report(self._pairing.waiting())

    def _floor(self) -> int:
        places = (self._ledger.position, self._pairing.oldest(), self._archiver.place)
        return min(place for place in places if place is not None)

    async def _take(self, told: Told, place: int) -> None:
        event, sample = told
        half = Half(event, sample, place, self._clock.monotonic())
        found = self._pairing.take(half)
        if isinstance(found, Exchange):
            await self._settle([found])
        elif found is not None:
            self._metrics.dropped.labels(found).inc()
        await self._settle(self._pairing.expire(self._clock.monotonic()))

    async def _settle(self, exchanges: Iterable[Exchange]) -> None:
        for exchange in exchanges:
            waits = False
            try:
                waits = await self._use(exchange)
            except sqlite3.Error:
                raise
            except Exception as error:  # one that nobody foresaw must not stop those behind it
                self._metrics.dropped.labels("failed").inc(2 if exchange.response else 1)
                # Not a rendered traceback: that may take longer than a thousand exchanges.
                trace = traceback.format_exc(limit=-4)
                self._log.error("exchange_failed", error=repr(error), traceback=trace)
            self._ledger.settle(exchange.key, done=not waits)

    async def _use(self, exchange: Exchange) -> bool:
        """Count an exchange, unless it was; return whether it waits to be written."""
        subject = await self._watcher.take(exchange)
        if subject is None:
            return False
        pair = exchange.pair
        if pair is not None and not exchange.settled:
            self._joiner.answered(subject, exchange, self._clock.now())
            self._hear(pair)
        return self._archiver.add(subject.model, exchange)

    def _hear(self, pair: Pair) -> None:
        try:
            self._on_pair(pair)
        except Exception as error:  # whoever listens must not stop what is counted
            trace = traceback.format_exc(limit=-4)
            self._log.error("pair_not_heard", error=repr(error), traceback=trace)
