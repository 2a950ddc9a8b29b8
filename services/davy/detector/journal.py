"""The write-ahead journal: what was acknowledged is in it, on disk, before anything is counted.

Belongs here: frames, segments, fsync, reading back, letting go. Not here: what a frame holds
(`records.py`), when one is written (`intake.py`).

A segment is a file named by the place of its first byte; a frame is its length, a CRC-32, and the
content. A crash can tear only the end of the newest segment, where nothing was acknowledged.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Protocol

from davy.core.errors import ConflictError
from davy.core.logging import get_logger

_HEAD = struct.Struct("<II")
_SUFFIX = ".journal"


class Frame(NamedTuple):
    """A frame's content, its place, and the place after it."""

    place: int
    end: int
    content: bytes


class Journal(Protocol):
    """What keeps a body before it is acknowledged."""

    def append(self, contents: Sequence[bytes]) -> list[tuple[int, int]]:
        """Keep the contents, in order; return each one's place and the place after it."""
        ...

    def read(self, place: int) -> Iterator[Frame]:
        """Yield what is kept, from the frame that holds a place on."""
        ...

    def trim(self, place: int) -> None:
        """Let go of what lies before a place, or of part of that."""
        ...

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        ...


class NoJournal:
    """Keeps nothing: what was acknowledged ends with the process. Gives places all the same."""

    size = 0

    def __init__(self) -> None:
        self._end = 0

    def append(self, contents: Sequence[bytes]) -> list[tuple[int, int]]:
        """Return places as the files would have them."""
        found = []
        for content in contents:
            place, self._end = self._end, self._end + _HEAD.size + len(content)
            found.append((place, self._end))
        return found

    def read(self, place: int) -> Iterator[Frame]:  # noqa: ARG002 (the port's signature)
        """Yield nothing."""
        return iter(())

    def trim(self, place: int) -> None:
        """Do nothing."""


class FolderJournal:
    """A journal in a folder.

    Parameters
    ----------
    folder : Path
        Its own; made where it is absent.
    segment_bytes : int
        Size at which a new segment begins.
    begin : int
        The least place to give: what was counted must not come again as another's place.

    Raises
    ------
    ConflictError
        Another process has it open.
    """

    def __init__(
        self, folder: Path, *, segment_bytes: int = 64 * 1024 * 1024, begin: int = 0
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._log = get_logger("detector")
        self._lock: int | None = _lock(folder / "lock")
        self._file: int | None = None
        self._start = self._end = 0
        starts = self._starts()
        if starts:
            self._start = starts[-1]
            self._end = self._start + self._mend(self._start)
        self._end = max(self._end, begin)
        # Never write behind what a crash may have torn, nor over what has been let go.
        self._roll()

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return sum(path.stat().st_size for path in self._folder.glob(f"*{_SUFFIX}"))

    @property
    def end(self) -> int:
        """The place after the last frame."""
        return self._end

    def close(self) -> None:
        """Close the files."""
        for file in (self._file, self._lock):
            if file is not None:
                os.close(file)
        self._file = self._lock = None

    def append(self, contents: Sequence[bytes]) -> list[tuple[int, int]]:
        """Keep the contents, and return when they are on the disk.

        Raises
        ------
        OSError
            They are not: nothing of them is kept.
        """
        if self._file is None or self._end - self._start >= self._segment_bytes:
            self._roll()
        assert self._file is not None  # noqa: S101 (for the type checker)
        found, data, end = [], bytearray(), self._end
        for content in contents:
            data += _HEAD.pack(len(content), zlib.crc32(content)) + content
            place, end = end, end + _HEAD.size + len(content)
            found.append((place, end))
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._file, view) :]
            os.fdatasync(self._file)
        except OSError:
            # What a failed fsync left on disk is unknown: cut it off, and go on in a new file.
            broken, self._file = self._file, None
            try:
                os.ftruncate(broken, self._end - self._start)
                os.fsync(broken)
            finally:
                os.close(broken)
            raise
        self._end = end
        return found

    def read(self, place: int) -> Iterator[Frame]:
        """Yield the frames from the one that holds a place on, oldest first.

        A frame that is damaged ends its segment: what follows in it is lost, and said in the log.
        """
        starts = self._starts()
        for start, following in zip(starts, [*starts[1:], self._end], strict=True):
            # What lies behind is what a failed write left.
            content = self._path(start).read_bytes()[: following - start]
            if start + len(content) <= place:
                continue
            whole = 0
            for begin, end, body in _frames(content):
                whole = end
                if start + end > place:
                    yield Frame(start + begin, start + end, body)
            if whole < len(content):
                self._log.error(
                    "journal_damaged", segment=str(self._path(start)), lost=len(content) - whole
                )

    def trim(self, place: int) -> None:
        """Remove the segments that end before a place."""
        starts = self._starts()
        for start, following in pairwise(starts):
            if following <= place:
                self._path(start).unlink(missing_ok=True)

    def _roll(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
        path = self._path(self._end)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._file = os.open(path, flags, 0o600)
        self._start = self._end
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _mend(self, start: int) -> int:
        """Cut a torn end off the newest segment; return its length."""
        path = self._path(start)
        content = path.read_bytes()
        whole = max((end for _, end, _ in _frames(content)), default=0)
        if whole < len(content):
            self._log.warning("journal_torn", segment=str(path), cut=len(content) - whole)
            with path.open("r+b") as file:
                file.truncate(whole)
                os.fsync(file.fileno())
        return whole

    def _starts(self) -> list[int]:
        return sorted(int(path.stem) for path in self._folder.glob(f"*{_SUFFIX}"))

    def _path(self, start: int) -> Path:
        return self._folder / f"{start:020d}{_SUFFIX}"


def _frames(content: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield each whole frame's offset, the offset after it, and its content."""
    at = 0
    while at + _HEAD.size <= len(content):
        length, checksum = _HEAD.unpack_from(content, at)
        end = at + _HEAD.size + length
        body = content[at + _HEAD.size : end]
        if len(body) < length or zlib.crc32(body) != checksum:
            return
        yield at, end, body
        at = end


def _lock(path: Path) -> int:
    import fcntl

    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise ConflictError(
            "another detector uses this folder",
            where=str(path.parent),
            fix="Give each its own DAVY_DETECTOR_STATE",
        ) from None
    return file
