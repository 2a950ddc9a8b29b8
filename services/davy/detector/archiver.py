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
import secrets
from collections.abc import Sequence
from datetime import timedelta

import pyarrow as pa

from davy.core.clock import Clock
from davy.core.logging import get_logger
from davy.detector.archive import Archive
from davy.detector.ledger import Ledger
from davy.detector.metrics import ARCHIVED, DetectorMetrics
from davy.detector.pairing import Exchange
from davy.detector.tables import HOUR, Packed, pack, tables

# The ledger's meta: files that are being written, files whose rows are in another one, and the
# number of the next writing.
INTENT, MERGED, NEXT = "archive_intent", "archive_merged", "archive_next"
WRITER = "archive_writer"
# So many times what is written at once may wait; then nothing more is taken.
MOST_WAITING = 4
TIDY_SECONDS = 600.0
# Hours that ended so long ago are merged: their late events have come.
MERGE_AFTER, MERGE_UNTIL = 2, 26


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
    merge_bytes : int
        Size of the files that small ones become.
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
        merge_bytes: int,
    ) -> None:
        self._archive, self._ledger, self._metrics = archive, ledger, metrics
        self._clock = clock
        self._rows, self._size, self._seconds, self._hours = rows, size, seconds, hours
        self._merge_bytes = merge_bytes
        # A state that was lost, or another replica's, must not give a name again.
        self._writer = ledger.get(WRITER) or secrets.token_hex(4)
        ledger.set(WRITER, self._writer)
        self._waiting: list[Packed] = []
        self._waiting_rows = self._waiting_bytes = 0
        self._since = 0.0
        self._tidied = -TIDY_SECONDS
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
        left = [*self._paths(INTENT), *self._paths(MERGED)]
        if not left:
            return
        self._archive.remove(left)
        with self._ledger.transaction(durably=True):
            self._ledger.set(INTENT, "[]")
            self._ledger.set(MERGED, "[]")
        self._log.info("archive_cut_off_writing_removed", files=len(left))

    async def tick(self) -> None:
        """Write where enough waits, or waits long enough; let go of what is too old."""
        now = self._clock.monotonic()
        old = self._waiting and now - self._since >= self._seconds
        if old or self._waiting_rows >= self._rows or self._waiting_bytes >= self._size:
            await self.flush()
        if now - self._tidied >= TIDY_SECONDS:
            self._tidied = now
            try:
                await self._expire()
                await self._merge()
            except OSError as error:  # the next time
                self._log.warning("archive_not_tidied", error=str(error))

    async def _expire(self) -> None:
        if self._hours is None:
            return
        now = self._clock.now()
        if removed := await asyncio.to_thread(self._archive.expire, now, self._hours):
            self._log.info("archive_expired", hours=removed)

    async def _merge(self) -> None:
        """Make one file of many small ones; a reader may see rows twice while one replaces them."""
        if self._paths(INTENT):  # a writing failed, and its files are still to be removed
            return
        await self._remove_merged()
        now = self._clock.now()
        hours = [
            (now - timedelta(hours=ago)).strftime(HOUR) for ago in range(MERGE_AFTER, MERGE_UNTIL)
        ]
        for group in await asyncio.to_thread(self._archive.small, hours, self._merge_bytes):
            number = int(self._ledger.get(NEXT) or 0)
            target = self._name(group[0].rpartition("/")[0], number, 0)
            with self._ledger.transaction(durably=True):
                self._ledger.set(INTENT, json.dumps([target]))
                self._ledger.set(NEXT, str(number + 1))
            await asyncio.to_thread(self._archive.merge, group, target)
            # From here on the new file counts, and the others go.
            with self._ledger.transaction(durably=True):
                self._ledger.set(INTENT, "[]")
                self._ledger.set(MERGED, json.dumps(group))
            await self._remove_merged()

    async def _remove_merged(self) -> None:
        merged = self._paths(MERGED)
        if not merged:
            return
        await asyncio.to_thread(self._archive.remove, merged)
        with self._ledger.transaction(durably=True):
            self._ledger.set(MERGED, "[]")
        self._log.info("archive_merged", files=len(merged))

    def _name(self, folder: str, number: int, part: int) -> str:
        """Return the name of a file: who writes it, in which writing, which of its files."""
        return f"{folder}/part-{self._writer}-{number:010d}-{part:03d}.parquet"

    def _paths(self, name: str) -> list[str]:
        found: list[str] = json.loads(self._ledger.get(name) or "[]")
        return found

    async def flush(self) -> None:
        """Write what waits; where that fails it goes on waiting."""
        taken = self._waiting
        if not taken:
            return
        number = int(self._ledger.get(NEXT) or 0)
        files = await asyncio.to_thread(self._files, tuple(taken), number)
        paths = [path for path, _ in files]
        left = self._paths(INTENT)
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
            (self._name(partition.folder, number, part), table)
            for part, (partition, table) in enumerate(tables(taken))
        ]

    def _write(self, files: Sequence[tuple[str, pa.Table]], left: Sequence[str]) -> None:
        # What a writing that failed has left would be there twice.
        self._archive.remove(left)
        for path, table in files:
            self._archive.write(path, table)
