"""DuckDB through Ibis, with limits: what every step's tables run on.

Belongs here: opening and closing a connection, Davy's error for a failed query.
Not here: any particular query.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import ibis

from davy.core.errors import InvalidInputError

MEMORY_LIMIT = "1500MB"
THREADS = 2

# A query that does not parse, bind or run in the engine is a mistake of ours and stays one; what
# else fails (conversion, damaged pages, a full disk) comes from what was read.
OUR_MISTAKES = (
    duckdb.ParserException,
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.SyntaxException,
    duckdb.InternalException,
    duckdb.NotImplementedException,
    duckdb.ConnectionException,
)


@contextmanager
def open_engine(
    where: str, *, threads: int = THREADS, memory_limit: str = MEMORY_LIMIT
) -> Iterator[Any]:
    """Yield an Ibis connection to an in-memory DuckDB that spills to a temporary folder.

    Parameters
    ----------
    where : str
        What the block reads, for the error.
    threads, memory_limit
        What DuckDB may take of the machine.

    Raises
    ------
    InvalidInputError
        A query inside the block failed on what it read.
    """
    with tempfile.TemporaryDirectory(prefix="davy-duckdb-") as spill:
        connection = ibis.duckdb.connect(
            threads=threads,
            memory_limit=memory_limit,
            temp_directory=spill,
            preserve_insertion_order=False,
        )
        # Ibis turns the bar on once connected; it would write into a step's log.
        connection.raw_sql("SET enable_progress_bar = false")
        try:
            yield connection
        except duckdb.OutOfMemoryException as error:
            raise InvalidInputError(
                f"the tables do not fit in {memory_limit} of memory: {first_line(error)}",
                where=where,
                fix="Take fewer households or fewer train_baskets",
            ) from None
        except OUR_MISTAKES:
            raise
        except duckdb.Error as error:
            raise InvalidInputError(
                f"cannot be used: {first_line(error)}",
                where=where,
                fix="Write the file again: it is damaged or holds what its type does not allow",
            ) from None
        finally:
            connection.disconnect()


def first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def write_parquet(table: Any, path: Path) -> None:
    """Write a table so that a reader sees the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        table.to_parquet(str(part), compression="zstd")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
