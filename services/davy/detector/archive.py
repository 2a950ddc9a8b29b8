"""Parquet files of every exchange, in a folder or an object store.

Belongs here: the file system, names, retention. Not here: what is in a file (`tables.py`), when one
is written, and that it is written once (`archiver.py`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from davy.core.errors import ConfigurationError
from davy.detector.tables import HOUR


class Archive:
    """A place for Parquet files.

    Parameters
    ----------
    where : str
        A folder, or a URI as `pyarrow.fs.FileSystem.from_uri` reads it.

    Raises
    ------
    ConfigurationError
        It is neither.
    """

    def __init__(self, where: str) -> None:
        if "://" not in where:
            where = Path(where).absolute().as_uri()
        try:
            self._fs, self._root = fs.FileSystem.from_uri(where)
        except (pa.ArrowException, OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ConfigurationError(
                f"no place for an archive: {reason}",
                where=where,
                fix="Set DAVY_DETECTOR_ARCHIVE to a folder or a URI such as s3://bucket/prefix",
            ) from None
        self._local = isinstance(self._fs, fs.LocalFileSystem)

    def write(self, path: str, table: pa.Table) -> None:
        """Write a file; readers see it whole or not at all.

        Raises
        ------
        OSError
            It is not there.
        """
        target = f"{self._root}/{path}"
        if not self._local:
            # An object appears when its upload is complete.
            pq.write_table(table, target, filesystem=self._fs)
            return
        self._fs.create_dir(target.rpartition("/")[0], recursive=True)
        hidden = _hidden(target)
        pq.write_table(table, hidden, filesystem=self._fs)
        _sync(hidden)
        self._fs.move(hidden, target)
        _sync(target.rpartition("/")[0])

    def remove(self, paths: Sequence[str]) -> None:
        """Remove files, whether they are there or not."""
        for path in paths:
            for target in (f"{self._root}/{path}", _hidden(f"{self._root}/{path}")):
                if self._fs.get_file_info(target).type == fs.FileType.File:
                    self._fs.delete_file(target)

    def small(self, hours: Sequence[str], most_bytes: int) -> list[list[str]]:
        """Return the small files of some hours that may become one: of one folder and schema.

        Parameters
        ----------
        hours : sequence of str
            As `Partition.hour` has them.
        most_bytes : int
            Size of what becomes one file; files of half of that are left as they are.
        """
        found: dict[tuple[str, str], list[tuple[str, int]]] = {}
        for hour in hours:
            selector = fs.FileSelector(
                f"{self._root}/hour={hour}", allow_not_found=True, recursive=True
            )
            for info in sorted(self._fs.get_file_info(selector), key=lambda info: info.path):
                small = info.type == fs.FileType.File and info.size < most_bytes / 2
                if small and info.extension == "parquet":
                    schema = pq.read_schema(info.path, filesystem=self._fs)
                    path = info.path.removeprefix(f"{self._root}/")
                    key = (path.rpartition("/")[0], schema.to_string())
                    found.setdefault(key, []).append((path, info.size))
        return [group for files in found.values() for group in _groups(files, most_bytes)]

    def merge(self, paths: Sequence[str], target: str) -> None:
        """Write the rows of several files into one, in their order.

        Raises
        ------
        OSError
            One of them cannot be read, or the new one not written.
        """
        # Not through a dataset: it would add the folder's names as columns.
        read = [
            pq.ParquetFile(self._fs.open_input_file(f"{self._root}/{path}")).read()
            for path in paths
        ]
        self.write(target, pa.concat_tables(read))

    def expire(self, now: datetime, hours: float) -> int:
        """Remove the hours that ended longer ago than so many hours; return how many."""
        selector = fs.FileSelector(self._root, allow_not_found=True)
        removed = 0
        for info in self._fs.get_file_info(selector):
            name = info.base_name
            if info.type != fs.FileType.Directory or not name.startswith("hour="):
                continue
            try:
                start = datetime.strptime(unquote(name[5:]), HOUR).replace(tzinfo=UTC)
            except ValueError:  # not one of ours
                continue
            if now - start - timedelta(hours=1) > timedelta(hours=hours):
                self._fs.delete_dir(info.path)
                removed += 1
        return removed


def _hidden(path: str) -> str:
    """Return a file's name while it is written: readers pass over names that begin with a dot."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.incomplete"


def _groups(files: Sequence[tuple[str, int]], most_bytes: int) -> list[list[str]]:
    """Return runs of files that together are no larger than that; no run of one."""
    groups: list[list[str]] = []
    room = 0
    for path, size in files:
        if not groups or size > room:
            groups.append([])
            room = most_bytes
        groups[-1].append(path)
        room -= size
    return [group for group in groups if len(group) > 1]


def _sync(path: str) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
