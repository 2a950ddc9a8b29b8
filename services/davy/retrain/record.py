"""What was decided and started, a line each, for the next decision and for people.

Belongs here: the file, and what of it counts as the last start. Not here: deciding.

A start is written before anything begins and its end after it: a process that dies in between
leaves a start without an end, which holds back the next one until its time is over.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import orjson
from pydantic import Field, ValidationError

from davy.core.errors import ConflictError, IntegrityError
from davy.core.files import MachineWritten, append_line
from davy.retrain.decide import Past

Event = Literal["decision", "start", "end"]


class Line(MachineWritten):
    """One line of the record.

    ``outcome`` of a decision is start, blocked or none; of an end trained, failed or canary_failed.
    """

    at: datetime
    event: Event
    model: str
    outcome: str = ""
    reason: str = ""
    package: str = ""
    checks: dict[str, str] = Field(default_factory=dict)


class Record:
    """The record of one model's policy.

    Parameters
    ----------
    path : Path
        Its file, JSON lines; made when it is written to.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self._path.parent

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep others from deciding by the same record.

        Raises
        ------
        ConflictError
            Another process does.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.with_name(f"{self._path.name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConflictError(
                    "another process decides by this record",
                    where=str(self._path),
                    fix="Let it end, or give this one another --record",
                ) from None
            yield

    def append(self, line: Line) -> None:
        """Write a line; it is on the disk when this returns."""
        append_line(self._path, orjson.dumps(line.model_dump(mode="json")))

    def lines(self) -> list[Line]:
        """Return all lines.

        Raises
        ------
        IntegrityError
            A line other than a cut-off one is none of ours.
        """
        if not self._path.exists():
            return []
        found = []
        for number, text in enumerate(self._path.read_bytes().splitlines(), 1):
            if not text.strip():
                continue
            try:
                found.append(Line.model_validate(orjson.loads(text)))
            except orjson.JSONDecodeError:
                # Cut off in a crash: what it would have said has not happened.
                continue
            except ValidationError as error:
                raise IntegrityError(
                    f"line {number} is no line of a record ({error.error_count()} fields)",
                    where=str(self._path),
                    fix="Name another file",
                ) from None
        return found

    def past(self, now: datetime, timeout: timedelta) -> Past:
        """Return the last start, and whether it may still run."""
        started: datetime | None = None
        running = False
        for line in self.lines():
            if line.event == "start":
                started, running = line.at, True
            elif line.event == "end":
                running = False
        if started is not None and now - started > timeout:
            running = False
        return Past(started, running)
