"""From a posted body to the queue: room first, then the disk, then the acknowledgement.

Belongs here: the bound on what is held, the group commit. Not here: HTTP, what becomes of it.

Whatever waits when the disk is free is written together and synced once, so a sync costs many
senders what it costs one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from davy.core.errors import OverloadedError, UnavailableError
from davy.core.logging import get_logger
from davy.detector.journal import Journal
from davy.detector.labels import Label
from davy.detector.records import Record, Told, encode_record


@dataclass(frozen=True, slots=True)
class Entry:
    """What one body held, and where the journal keeps it: from ``place`` to before ``end``."""

    place: int
    end: int
    events: Sequence[Told] = ()
    labels: Sequence[Label] = ()
    size: int = 0

    @property
    def items(self) -> int:
        """Events and labels."""
        return len(self.events) + len(self.labels)


@dataclass(slots=True)
class _Posted:
    content: bytes
    entry: Entry
    done: asyncio.Future[None]


class Intake:
    """Holds what was acknowledged until the consumer takes it.

    Parameters
    ----------
    journal : Journal
        Keeps each body before it is acknowledged.
    most, most_bytes : int
        Events and bytes that may be held; a body that does not fit is refused whole, unless
        nothing is held.
    journal_bytes : int
        Size of the journal from which on bodies are refused: the consumer must catch up.
    """

    def __init__(
        self, journal: Journal, *, most: int, most_bytes: int, journal_bytes: int = 2**63
    ) -> None:
        self._journal = journal
        self._most, self._most_bytes = most, most_bytes
        self._journal_bytes = journal_bytes
        self._posted: list[_Posted] = []
        self._queue: deque[Entry] = deque()
        self._held = self._held_bytes = 0
        self._kept = journal.size
        self._arrived = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._log = get_logger("detector")

    async def put(
        self, record: Record, *, events: Sequence[Told] = (), labels: Sequence[Label] = ()
    ) -> None:
        """Keep a body and queue what it held; returns when it is on the disk.

        Raises
        ------
        OverloadedError
            There is no room; nothing of it was taken.
        UnavailableError
            The disk did not take it; nothing of it was taken.
        """
        content = encode_record(record)
        entry = Entry(0, 0, events, labels, len(content))
        self._reserve(entry)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._posted.append(_Posted(content, entry, done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        # A sender that hangs up must not take back what others wait for with it.
        await asyncio.shield(done)

    async def take(self, most: int, seconds: float) -> list[Entry]:
        """Return the next entries, up to so many events; none if none comes in so many seconds."""
        if not self._queue:
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), seconds)
            except TimeoutError:
                return []
        found: list[Entry] = []
        items = 0
        while self._queue and (not found or items + self._queue[0].items <= most):
            entry = self._queue.popleft()
            found.append(entry)
            items += entry.items
        return found

    def release(self, entries: Sequence[Entry]) -> None:
        """Free the room of entries that were taken and are counted."""
        self._held -= sum(entry.items for entry in entries)
        self._held_bytes -= sum(entry.size for entry in entries)

    def trimmed(self) -> None:
        """Measure the journal again."""
        self._kept = self._journal.size

    @property
    def held(self) -> int:
        """Events and labels that are held."""
        return self._held

    def _reserve(self, entry: Entry) -> None:
        full = (
            self._held + entry.items > self._most
            or self._held_bytes + entry.size > self._most_bytes
        )
        if full and self._held:
            raise OverloadedError("the queue is full; nothing of this was taken")
        if self._kept > self._journal_bytes:
            raise OverloadedError("the journal is full; nothing of this was taken")
        self._held += entry.items
        self._held_bytes += entry.size

    async def _write(self) -> None:
        while self._posted:
            group, self._posted = self._posted, []
            try:
                places = await asyncio.to_thread(
                    self._journal.append, [item.content for item in group]
                )
            except OSError as error:
                self._log.error("journal_not_written", error=str(error))
                self.release([item.entry for item in group])
                for item in group:
                    fault = UnavailableError(
                        f"the journal cannot be written ({error})",
                        fix="See to the disk of DAVY_DETECTOR_STATE",
                    )
                    if not item.done.cancelled():
                        item.done.set_exception(fault)
                continue
            for item, (place, end) in zip(group, places, strict=True):
                held = item.entry
                self._queue.append(Entry(place, end, held.events, held.labels, held.size))
                self._kept += held.size
                if not item.done.cancelled():
                    item.done.set_result(None)
            self._arrived.set()
