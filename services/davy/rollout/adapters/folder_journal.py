"""The decision record in a folder: append, sync, one holder at a time.

Belongs here: the file, its lock, repairing a line that a crash cut off.
Not here: what a line says (`davy.rollout.record`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from davy.core.errors import ConflictError, InvalidInputError, TemporaryError
from davy.core.logging import get_logger
from davy.rollout.record import Header, LookLine, Record, line_hash, to_line
from davy.rollout.record_file import parse_record

RECORD = "record.jsonl"
LOCK = "lock"


class FolderJournal:
    """``record.jsonl`` in a folder, locked until `close` or the end of the process.

    Parameters
    ----------
    folder : Path
        Made when absent.

    Raises
    ------
    ConflictError
        Another rollout holds the folder; names its process.
    InvalidInputError
        The folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / RECORD
        self._tip: str | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise InvalidInputError(
                f"cannot be written ({error.strerror})", where=str(folder)
            ) from None
        try:
            # The kernel drops this lock with the process, however it ends: no stale locks.
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._lock, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._lock)
            raise ConflictError(
                f"a rollout already runs here (process {holder})",
                where=str(folder),
                fix="Wait for it, or use another folder",
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folder."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def read(self) -> Record | None:
        """Return the record; bytes of a line that a crash left unfinished are cut off the file.

        Raises
        ------
        InvalidInputError
            Damage other than that; names the line.
        """
        if not self.path.exists():
            return None
        data = self.path.read_bytes()
        record = parse_record(data, where=str(self.path))
        cut = len(data) if record is None else record.cut_bytes
        if cut:
            get_logger("rollout").warning(
                "unfinished last line cut off", record=str(self.path), bytes=cut
            )
            with self.path.open("rb+") as file:
                file.truncate(len(data) - cut)
                os.fsync(file.fileno())
        self._tip = _tip(record)
        return record

    def begin(self, header: Header) -> None:
        """Write the header."""
        self._write(to_line(header), chained=True)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # else a power cut may forget the file's name
        finally:
            os.close(folder)

    def append(self, line: LookLine) -> None:
        """Write one look, chained to the line before it."""
        if self._tip is None:
            self.read()
        self._write(to_line(line, self._tip or ""), chained=bool(self._tip))

    def _write(self, data: bytes, *, chained: bool) -> None:
        length = self.path.stat().st_size if self.path.exists() else 0
        try:
            with self.path.open("ab") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            # The next line must not be glued to a part of this one.
            with contextlib.suppress(OSError):
                os.truncate(self.path, length)
            raise TemporaryError(
                f"cannot be written ({error.strerror})",
                where=str(self.path),
                fix="Nothing was decided: free the disk and start again, the rollout goes on",
                delay=60.0,
            ) from None
        self._tip = line_hash(data) if chained else ""


def _tip(record: Record | None) -> str | None:
    """Return the hash that the next line carries: none in a record that is not chained."""
    if record is None:
        return None
    return record.tip if record.chained else ""
