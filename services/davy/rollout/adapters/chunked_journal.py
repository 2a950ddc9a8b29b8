"""The decision record in numbered chunks of text, each written whole and only over what was read.

Belongs here: which chunk a line goes to, joining them. Not here: where chunks are kept
(`davy.rollout.adapters.configmap_chunks`), what a line says (`davy.rollout.record`).

An object of the API server has a limit of about 1 MiB and is written whole, so a record is split;
small chunks keep each look's write small. A chunk is written only if it is still as this journal
read or wrote it, and a full one is sealed before the next is begun: nothing is appended to it any
more, so that whoever has read it before cannot write into the past. So of two that write, one is
refused, and what is in the record has been decided once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from davy.core.errors import InvalidInputError, PermanentError, TemporaryError
from davy.rollout.record import Header, LookLine, Record, line_hash, to_line
from davy.rollout.record_file import parse_record

# Bytes after which the next line begins a new chunk.
CHUNK_BYTES = 128 * 1024
# The API server takes 1 MiB in a ConfigMap, its key included.
MOST_BYTES = 1024 * 1024 - 1024


class LineTooLongError(PermanentError):
    """A line that no chunk can hold: another try would say the same."""

    reason = "RecordLineTooLong"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Number `number` of a record; ``version`` says which writing of it this is.

    To one that is ``sealed`` nothing is appended.
    """

    number: int
    data: bytes
    version: str
    sealed: bool = False


class Chunks(Protocol):
    """Where the chunks of one record are kept."""

    def read(self) -> Sequence[Chunk]:
        """Return all, in any order."""
        ...

    def version(self, number: int) -> str:
        """Return which writing of a chunk is there; empty where there is none."""
        ...

    def create(self, number: int, data: bytes) -> Chunk:
        """Write a new one.

        Raises
        ------
        TemporaryError
            It is there already, or cannot be written now.
        """
        ...

    def replace(self, chunk: Chunk, data: bytes) -> Chunk:
        """Write over one.

        Raises
        ------
        TemporaryError
            It is not that version any more, or cannot be written now.
        """
        ...

    def seal(self, chunk: Chunk) -> None:
        """Write it once more, as sealed; raises as `replace`."""
        ...


class ChunkedJournal:
    """A record in chunks.

    Parameters
    ----------
    chunks : Chunks
        Where they are kept.
    where : str
        The record's place, for messages.
    may_write : callable, optional
        Asked before each write: an operator that is not the leader any more decides nothing.
    chunk_bytes : int
        Size at which a chunk is full.
    most_bytes : int
        Size that no chunk may exceed, nor any line.
    """

    def __init__(
        self,
        chunks: Chunks,
        *,
        where: str,
        may_write: Callable[[], bool] = lambda: True,
        chunk_bytes: int = CHUNK_BYTES,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._chunks = chunks
        self._where = where
        self._may_write = may_write
        self._chunk_bytes = chunk_bytes
        self._most_bytes = most_bytes
        self._last: Chunk | None = None

    def read(self) -> Record | None:
        """Return the record, None when there is none.

        Raises
        ------
        InvalidInputError
            A chunk or a line is missing or damaged.
        """
        found = sorted(self._chunks.read(), key=lambda chunk: chunk.number)
        numbers = [chunk.number for chunk in found]
        if numbers != list(range(len(found))):
            raise InvalidInputError(
                f"chunks {numbers} are there, one is missing",
                where=self._where,
                fix="The record is damaged: delete the rollout, and start it anew",
            )
        self._last = found[-1] if found else None
        return parse_record(b"".join(chunk.data for chunk in found), where=self._where)

    def check(self) -> None:
        """See that nobody has written since this journal read or wrote.

        One chunk is asked for: what comes after it is written only after it was sealed.

        Raises
        ------
        TemporaryError
            Somebody has, or it was not read since a write that failed.
        """
        last = self._last
        unchanged = last is not None and self._chunks.version(last.number) == last.version
        if unchanged and last is not None and last.sealed:
            unchanged = not self._chunks.version(last.number + 1)
        if not unchanged:
            raise TemporaryError(
                "the record was changed since it was read: another operator is at work",
                where=self._where,
                delay=5.0,
            )

    def begin(self, header: Header) -> None:
        """Write the header.

        Raises
        ------
        LineTooLongError
            No chunk can hold it.
        """
        self._leading()
        data = to_line(header)
        self._check_length(data)
        self._last = self._chunks.create(0, data)

    def append(self, line: LookLine) -> None:
        """Write one look, chained to the line before it.

        Raises
        ------
        LineTooLongError
            No chunk can hold it; then nothing was written.
        """
        self._leading()
        if self._last is None:
            raise InvalidInputError("has no header yet", where=self._where)
        last = self._last
        data = to_line(line, line_hash(last.data.splitlines()[-1]))
        self._check_length(data)
        # Whether a failed write was done is not known: nothing more is written before a `read`.
        self._last = None
        if not last.sealed and len(last.data) + len(data) <= self._chunk_bytes:
            self._last = self._chunks.replace(last, last.data + data)
            return
        if not last.sealed:
            self._chunks.seal(last)
        self._last = self._chunks.create(last.number + 1, data)

    def _check_length(self, data: bytes) -> None:
        if len(data) > self._most_bytes:
            raise LineTooLongError(
                f"a line has {len(data)} bytes, a ConfigMap can hold {self._most_bytes}: each pod "
                "and each value of a segment adds to it",
                where=self._where,
                fix="Begin anew with fewer pods or replicas, or without `segments`",
            )

    def _leading(self) -> None:
        if not self._may_write():
            raise TemporaryError(
                "not the leader any more: nothing was decided", where=self._where, delay=5.0
            )
