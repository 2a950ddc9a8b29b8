"""What happened by when: transactions summed to days, and the requests drawn from them.

Belongs here: the daily tables and the sampling of requests. Not here: any look back from a
request (`davy.features.candidates`, `davy.features.signals`).

Days are numbered from 2017-01-02, a Monday, so that a week's first day is a multiple of 7. Money
is summed in whole cents: a sum of integers does not depend on the order of rows, so the same
history gives the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import ibis

from davy.data.split import part_column
from davy.data.task import Task

MONDAY = date(2017, 1, 2)
SMALLEST_BASKET = 5


@dataclass(frozen=True, slots=True)
class History:
    """Tables of the past, each a DuckDB table.

    ``households``: household_no, household_id.
    ``lines``: household_no, day_no, product_id, baskets.
    ``visits``: household_no, day_no, day, baskets, cents, products, week, time, basket_id.
    ``sales``: product_id, day_no, visits, quantity, cents, discount_cents (of all households).
    ``aisles``: household_no, day_no, department, products.
    ``products``: product_id, department.
    """

    households: Any
    lines: Any
    visits: Any
    sales: Any
    aisles: Any
    products: Any


def read_history(connection: Any, transactions: Any) -> History:
    """Sum transactions to days.

    Parameters
    ----------
    connection : ibis connection
        Where the tables are made.
    transactions : ibis table
        As `davy.data.prepare` writes them.
    """
    ids = transactions.select("household_id").distinct()
    households = connection.create_table(
        "households",
        ids.mutate(household_no=ibis.row_number().over(order_by=ids.household_id)),
    )
    rows = transactions.inner_join(households, "household_id")
    rows = rows.mutate(
        day_no=rows.day.delta(ibis.literal(MONDAY), unit="day"),
        cents=(rows.sales_value * 100).round().cast("int64"),
        discount_cents=(rows.discount * 100).round().cast("int64"),
    )
    daily = connection.create_table(
        "daily",
        rows.group_by("household_no", "day_no", "product_id").aggregate(
            department=rows.department.min(),
            baskets=rows.basket_id.nunique(),
            quantity=rows.quantity.sum(),
            cents=rows.cents.sum(),
            discount_cents=rows.discount_cents.sum(),
        ),
    )
    visits = rows.group_by("household_no", "day_no", "day").aggregate(
        baskets=rows.basket_id.nunique(),
        cents=rows.cents.sum(),
        products=rows.product_id.nunique(),
        week=rows.week.min(),
        time=rows.time.min(),
        basket_id=rows.basket_id.min(),
    )
    sales = daily.group_by("product_id", "day_no").aggregate(
        visits=daily.count(),
        quantity=daily.quantity.sum(),
        cents=daily.cents.sum(),
        discount_cents=daily.discount_cents.sum(),
    )
    aisles = daily.group_by("household_no", "day_no", "department").aggregate(
        products=daily.count()
    )
    products = daily.group_by("product_id").aggregate(department=daily.department.min())
    return History(
        households=households,
        lines=daily.select("household_no", "day_no", "product_id", "baskets"),
        visits=connection.create_table("visits", visits),
        sales=connection.create_table("sales", sales),
        aisles=connection.create_table("aisles", aisles),
        products=connection.create_table("product_departments", products),
    )


def draw_requests(history: History, task: Task, sizes: Mapping[str, int]) -> Any:
    """Draw the requests of each part: visits of a household to the shop, one a day.

    A request is one household on one day; several baskets of that day are one request. The order
    in which requests are drawn comes from a hash of the seed and the day's first basket, so it
    depends neither on the pseudonyms' key nor on the order of rows.

    Parameters
    ----------
    history : History
        The past.
    task : Task
        Its ``split`` and ``model.seed``.
    sizes : mapping of str to int
        The most requests of each part; there may be fewer.

    Returns
    -------
    ibis table
        request_no (0, 1, ... in the order of time), household_no, day_no, day, week, time,
        basket_size, part.
    """
    visits = history.visits
    visits = visits.mutate(
        part=part_column(visits.week, task.split),
        draw=(ibis.literal(f"{task.model.seed}:") + visits.basket_id.cast("string")).hexdigest(
            "md5"
        ),
    ).filter(ibis._.part.notnull(), ibis._.products >= SMALLEST_BASKET)
    place = ibis.row_number().over(group_by=visits.part, order_by=[visits.draw, visits.basket_id])
    ranked = visits.mutate(place=place)
    most = ibis.cases(*((ranked.part == part, size) for part, size in sizes.items()), else_=0)
    drawn = ranked.filter(ranked.place < most)
    return drawn.select(
        request_no=ibis.row_number().over(order_by=[drawn.time, drawn.basket_id]),
        household_no=drawn.household_no,
        day_no=drawn.day_no,
        day=drawn.day,
        week=drawn.week,
        time=drawn.time,
        basket_size=drawn.products,
        part=drawn.part,
    )
