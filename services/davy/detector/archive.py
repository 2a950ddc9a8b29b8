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
from davy.detector.tables import HOUR, Partition


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

    def path(self, partition: Partition, number: int, part: int) -> str:
        """Return the name of a file: that of its writing, and its number in that."""
        return f"{partition.path}/part-{number:010d}-{part:03d}.parquet"

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
        hidden = f"{target}.incomplete"
        pq.write_table(table, hidden, filesystem=self._fs)
        _sync(hidden)
        self._fs.move(hidden, target)
        _sync(target.rpartition("/")[0])

    def remove(self, paths: Sequence[str]) -> None:
        """Remove files, whether they are there or not."""
        for path in paths:
            for name in (path, f"{path}.incomplete"):
                target = f"{self._root}/{name}"
                if self._fs.get_file_info(target).type == fs.FileType.File:
                    self._fs.delete_file(target)

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


def _sync(path: str) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
