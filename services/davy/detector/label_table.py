"""Labels from a table that someone else writes, read again whenever it has changed.

Belongs here: the schedule, the columns. Not here: what a label is about (`joiner.py`).

The whole table is read each time: what was told before is a duplicate, so a table may grow, be
replaced, or lose its old rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
from pyarrow import csv

from davy.core.clock import Clock
from davy.core.errors import InvalidInputError, OverloadedError, UnavailableError
from davy.core.logging import get_logger
from davy.detector.intake import Intake
from davy.detector.labels import read_labels
from davy.detector.metrics import DetectorMetrics
from davy.detector.records import Record

NEEDED = ("request_id", "label")
OPTIONAL = ("time", "model")
# Labels that are kept, and acknowledged, together.
PAGE = 1000
RETRY_SECONDS = 1.0


class LabelTable:
    """A CSV or Parquet file with the columns request_id, label and, where it has them, time, model.

    Parameters
    ----------
    path : Path
        The file.
    seconds : float
        How often it is looked at.
    intake : Intake
        Takes the labels, as if they were posted.
    metrics : DetectorMetrics
        Counts what cannot be read.
    clock : Clock
        When it was read.
    """

    def __init__(
        self, path: Path, seconds: float, intake: Intake, metrics: DetectorMetrics, clock: Clock
    ) -> None:
        self._path, self._seconds = path, seconds
        self._intake, self._metrics, self._clock = intake, metrics, clock
        self._seen: tuple[int, int] | None = None
        self._log = get_logger("detector")

    async def run(self) -> None:
        """Read it until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._seconds)

    async def look(self) -> int:
        """Read the table if it has changed; return how many labels were taken."""
        try:
            found = self._path.stat()
        except OSError as error:
            self._tell("label_table_not_there", str(error))
            return 0
        now = (found.st_mtime_ns, found.st_size)
        if now == self._seen:
            return 0
        taken = 0
        try:
            pages = await asyncio.to_thread(lambda: list(_pages(self._path)))
            for page in pages:
                taken += await self._take(page)
        except (InvalidInputError, OSError, TypeError, ValueError) as error:  # and pyarrow's
            self._tell("label_table_not_read", " ".join(str(error).split()))
        # One that cannot be read is not read again until it is another.
        self._seen = now
        self._log.info("label_table_read", table=str(self._path), labels=taken)
        return taken

    async def _take(self, page: list[Mapping[str, Any]]) -> int:
        record = Record("labels", self._clock.now(), orjson.dumps(page))
        labels = read_labels(record.body, received=record.received)
        while True:
            try:
                await self._intake.put(record, labels=labels)
            except (OverloadedError, UnavailableError):
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return len(labels)

    def _tell(self, event: str, error: str) -> None:
        self._metrics.unused.labels("table").inc()
        self._log.warning(event, table=str(self._path), error=error)


def _pages(path: Path) -> Iterator[list[Mapping[str, Any]]]:
    table = csv.read_csv(path) if path.suffix == ".csv" else pq.read_table(path)
    lacking = [name for name in NEEDED if name not in table.column_names]
    if lacking:
        raise InvalidInputError(
            f"lacks the column {' and '.join(lacking)}",
            where=str(path),
            fix="A row of it needs request_id and label, and may have time and model",
        )
    names = [name for name in (*NEEDED, *OPTIONAL) if name in table.column_names]
    page: list[Mapping[str, Any]] = []
    for row in table.select(names).to_pylist():
        if row["label"] is None:  # not known yet
            continue
        page.append(_label(row))
        if len(page) == PAGE:
            yield page
            page = []
    if page:
        yield page


def _label(row: Mapping[str, Any]) -> Mapping[str, Any]:
    found = {name: value for name, value in row.items() if value is not None}
    # An id that looks like a number is read as one.
    found["request_id"] = str(row["request_id"])
    if isinstance(time := found.get("time"), datetime):
        found["time"] = (time if time.tzinfo else time.replace(tzinfo=UTC)).isoformat()
    return found
