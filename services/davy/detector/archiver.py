"""Each exchange into the archive, and into it once, whatever happens in between.

Belongs here: what waits to be written, the two commits around a writing. Not here: the files
(`archive.py`).

The names of the files are committed before they are written; that their exchanges are done with,
after. So after a crash in between, the files are known: they are removed, and their exchanges,
which the journal still holds, are written again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import pyarrow as pa

from davy.core.clock import Clock
from davy.core.logging import get_logger
from davy.detector.archive import Archive
from davy.detector.ledger import Ledger
from davy.detector.metrics import ARCHIVED, DetectorMetrics
from davy.detector.pairing import Exchange
from davy.detector.tables import Packed, pack, tables

# The ledger's meta: files that are being written, and the number of the next writing.
INTENT, NEXT = "archive_intent", "archive_next"
# So many times what is written at once may wait; then nothing more is taken.
MOST_WAITING = 4
EXPIRE_SECONDS = 600.0


class NoArchive:
    """Writes nothing."""

    full = False
    place: int | None = None

    def add(self, model: str, exchange: Exchange) -> bool:  # noqa: ARG002 (the signature)
        """Say that nothing is left to do with an exchange."""
        return False

    def recover(self) -> None:
        """Do nothing."""

    async def tick(self) -> None:
        """Do nothing."""

    async def flush(self) -> None:
        """Do nothing."""


class Archiver:
    """Collects exchanges and writes them.

    Parameters
    ----------
    archive : Archive
        Where to.
    ledger : Ledger
        Knows what was written.
    metrics : DetectorMetrics
        Counts rows and failures.
    clock : Clock
        Wall and monotonic time.
    rows, size : int
        Rows, or bytes of them, at which a writing begins.
    seconds : float
        Age at which it does.
    hours : float, optional
        How long files are kept.
    """

    def __init__(
        self,
        archive: Archive,
        ledger: Ledger,
        metrics: DetectorMetrics,
        clock: Clock,
        *,
        rows: int,
        size: int,
        seconds: float,
        hours: float | None,
    ) -> None:
        self._archive, self._ledger, self._metrics = archive, ledger, metrics
        self._clock = clock
        self._rows, self._size, self._seconds, self._hours = rows, size, seconds, hours
        self._waiting: list[Packed] = []
        self._waiting_rows = self._waiting_bytes = 0
        self._since = 0.0
        self._expired = -EXPIRE_SECONDS
        self._log = get_logger("detector")

    @property
    def full(self) -> bool:
        """Whether so much waits that nothing more may be taken."""
        return (
            self._waiting_rows > MOST_WAITING * self._rows
            or self._waiting_bytes > MOST_WAITING * self._size
        )

    @property
    def place(self) -> int | None:
        """The smallest place in the journal of what waits."""
        return min((item.place for item in self._waiting), default=None)

    def add(self, model: str, exchange: Exchange) -> bool:
        """Take an exchange; it must stay in the journal until it is written."""
        if not self._waiting:
            self._since = self._clock.monotonic()
        packed = pack(model, exchange)
        self._waiting.append(packed)
        self._waiting_rows += packed.rows
        self._waiting_bytes += packed.size
        return True

    def recover(self) -> None:
        """Remove the files of a writing that a crash cut off.

        Raises
        ------
        OSError
            They cannot be removed: what they hold would be there twice.
        """
        intent = json.loads(self._ledger.get(INTENT) or "[]")
        if not intent:
            return
        self._archive.remove(intent)
        with self._ledger.transaction(durably=True):
            self._ledger.set(INTENT, "[]")
        self._log.info("archive_cut_off_writing_removed", files=len(intent))

    async def tick(self) -> None:
        """Write where enough waits, or waits long enough; let go of what is too old."""
        now = self._clock.monotonic()
        old = self._waiting and now - self._since >= self._seconds
        if old or self._waiting_rows >= self._rows or self._waiting_bytes >= self._size:
            await self.flush()
        if self._hours is not None and now - self._expired >= EXPIRE_SECONDS:
            self._expired = now
            try:
                removed = await asyncio.to_thread(
                    self._archive.expire, self._clock.now(), self._hours
                )
            except OSError as error:  # the next time
                self._log.warning("archive_not_expired", error=str(error))
            else:
                if removed:
                    self._log.info("archive_expired", hours=removed)

    async def flush(self) -> None:
        """Write what waits; where that fails it goes on waiting."""
        taken = self._waiting
        if not taken:
            return
        number = int(self._ledger.get(NEXT) or 0)
        files = await asyncio.to_thread(self._files, tuple(taken), number)
        paths = [path for path, _ in files]
        left = json.loads(self._ledger.get(INTENT) or "[]")
        with self._ledger.transaction(durably=True):
            self._ledger.set(INTENT, json.dumps(sorted({*left, *paths})))
        try:
            await asyncio.to_thread(self._write, files, left)
        except OSError as error:
            self._metrics.archive_failed.inc()
            self._log.error("archive_not_written", error=str(error), rows=self._waiting_rows)
            return
        with self._ledger.transaction(durably=True):
            self._ledger.finish(item.key for item in taken)
            self._ledger.set(INTENT, "[]")
            self._ledger.set(NEXT, str(number + 1))
            for item in taken:
                labels = (item.partition.model, item.partition.version)
                self._ledger.count(ARCHIVED, labels, item.rows)
            rises = self._ledger.rises()
        self._metrics.counted(rises)
        self._waiting = []
        self._waiting_rows = self._waiting_bytes = 0

    def _files(self, taken: Sequence[Packed], number: int) -> list[tuple[str, pa.Table]]:
        return [
            (self._archive.path(partition, number, part), table)
            for part, (partition, table) in enumerate(tables(taken))
        ]

    def _write(self, files: Sequence[tuple[str, pa.Table]], left: Sequence[str]) -> None:
        # What a writing that failed has left would be there twice.
        self._archive.remove(left)
        for path, table in files:
            self._archive.write(path, table)
