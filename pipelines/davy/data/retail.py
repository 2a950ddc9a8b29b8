"""The raw tables of a shop, for tasks over households: lines, people, campaigns, redemptions.

Belongs here: finding the files, their columns and types, the shop's calendar day.
Not here: what a task makes of them (`davy.features.churn`, `davy.features.coupons`); the cleaned
transactions of a ranking (`davy.data.prepare`).

Households are numbered here, by the order of their ids: an id is the raw one of the source, so it
goes no further than this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import ibis
import ibis.expr.datatypes as dt

from davy.core.errors import InvalidInputError, NotFoundError
from davy.data.quality import ROW_RULES, check_rows, stop_on_failure
from davy.data.sources import package_folder, read_columns
from davy.data.table_task import PACKAGE

DEMOGRAPHICS = ("age", "income", "household_size", "kids_count")
_MONEY = ("sales_value", "retail_disc", "coupon_disc", "coupon_match_disc")

# Only what says that a file is broken: a line of fuel, or a bottle given back, is a visit too.
BREAKING = tuple(rule for rule in ROW_RULES if rule.action == "fail")


@dataclass(frozen=True, slots=True)
class Shop:
    """A folder of a shop's Parquet files, and the zone of its calendar."""

    folder: Path
    timezone: str

    def path(self, name: str) -> Path:
        """Return the file of a table.

        Raises
        ------
        NotFoundError
            There is no such file.
        """
        path = self.folder / f"{name}.parquet"
        if not path.is_file():
            raise NotFoundError(
                "no such file", where=str(path), fix="data.source must name a folder that has it"
            )
        return path


def open_shop(source: str, timezone: str) -> Shop:
    """Return the shop that ``completejourney:`` or ``file://FOLDER`` names.

    Raises
    ------
    MissingDependencyError
        The package of the source is not installed.
    """
    if source == PACKAGE:
        return Shop(package_folder(), timezone)
    return Shop(Path(unquote(source.removeprefix("file://"))), timezone)


def read_households(connection: Any, shop: Shop) -> Any:
    """Return household_id, household (0, 1, …) and the demographics, null where unknown."""
    lines = read_columns(connection, shop.path("transactions"), {"household_id": dt.string})
    people = read_columns(
        connection,
        shop.path("demographics"),
        {"household_id": dt.string} | dict.fromkeys(DEMOGRAPHICS, dt.string),
    )
    # Sorted as numbers where ids are numbers: 9 before 10.
    ids = lines.select("household_id").distinct()
    ids = ids.filter(ids.household_id.notnull())
    order = [ids.household_id.try_cast("int64"), ids.household_id]
    numbered = ids.mutate(household=ibis.row_number().over(order_by=order))
    twice = people.group_by("household_id").aggregate(n=people.count()).filter(ibis._.n > 1)
    if int(twice.count().to_pyarrow().as_py()):
        raise InvalidInputError("holds a household twice", where=str(shop.path("demographics")))
    joined = numbered.left_join(people, "household_id").drop("household_id_right")
    return connection.create_table("households", joined)


def read_lines(connection: Any, shop: Shop, households: Any) -> Any:
    """Return the shop's lines: household, basket_id, product_id, department, brand, day, cents,
    discount_cents, coupon_cents.

    ``day`` is the date by the shop's clock. Money is in whole cents: a sum of integers does not
    depend on the order of rows.

    Raises
    ------
    NotFoundError, InvalidInputError
        A file is missing, lacks a column, or too many of its rows are broken.
    """
    path = shop.path("transactions")
    raw = read_columns(
        connection,
        path,
        {
            "household_id": dt.string,
            "basket_id": dt.int64,
            "product_id": dt.int64,
            "quantity": dt.int64,
            **dict.fromkeys(_MONEY, dt.float64),
            "week": dt.int64,
            "time": dt.Timestamp(),
        },
        {"time": "transaction_timestamp"},
    )
    stop_on_failure(check_rows(raw, BREAKING), where=str(path))
    good = raw.filter([~rule.failing(raw) for rule in BREAKING])
    products = read_columns(
        connection,
        shop.path("products"),
        {"product_id": dt.int64, "department": dt.string, "brand": dt.string},
    )
    once = products.group_by("product_id").aggregate(
        department=products.department.min(), brand=products.brand.min()
    )
    lines = good.inner_join(households.select("household_id", "household"), "household_id")
    lines = lines.left_join(once, "product_id")
    shown = lines.mutate(day=local_day(lines.time, shop.timezone))
    return shown.select(
        "household", "basket_id", "product_id", "department", "brand", "day",
        cents=(shown.sales_value * 100).round().cast("int64"),
        discount_cents=(shown.retail_disc * 100).round().cast("int64"),
        coupon_cents=((shown.coupon_disc + shown.coupon_match_disc) * 100).round().cast("int64"),
    )  # fmt: skip


def local_day(time: Any, zone: str) -> Any:
    """Return the date that the clock of `zone` shows at UTC times."""
    return _local(zone, _instant("UTC", time)).date()


@ibis.udf.scalar.builtin(name="timezone", signature=(("string", "timestamp"), "timestamp('UTC')"))
def _instant(zone, time):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Read a time without a zone as one of `zone`: DuckDB's ``timezone``."""


@ibis.udf.scalar.builtin(name="timezone", signature=(("string", "timestamp('UTC')"), "timestamp"))
def _local(zone, time):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Return an instant as the clock of `zone` shows it: DuckDB's ``timezone``."""
