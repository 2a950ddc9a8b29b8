"""What history says about a request's household and about its candidates, in native units.

Belongs here: looking back from a request; every join here says "before the request's day".
Not here: which of it a task asks for and in which unit (`davy.features.registry`).
"""

from __future__ import annotations

from typing import Any

import ibis

from davy.features.history import History

MONTH = 28


def household_signals(history: History, requests: Any) -> Any:
    """Look back over the household's visits.

    Returns
    -------
    ibis table
        request_no, days_since_basket (null without history), baskets_90d (baskets), spend_28d
        (dollars).
    """
    visits = history.visits.select(
        "baskets", "cents", visit_household="household_no", visit_day="day_no"
    )
    asked = requests.select("request_no", "household_no", "day_no")
    past = asked.left_join(
        visits, [asked.household_no == visits.visit_household, visits.visit_day < asked.day_no]
    )
    ago = past.day_no - past.visit_day
    return past.group_by("request_no").aggregate(
        days_since_basket=ago.min(),
        baskets_90d=past.baskets.sum(where=ago <= 90).fill_null(0),
        spend_28d=past.cents.sum(where=ago <= MONTH).fill_null(0) / 100,
    )


def department_signals(history: History, requests: Any) -> Any:
    """Look back over the departments that the household bought from.

    Returns
    -------
    ibis table
        request_no, department, department_share (of the household's products so far).
    """
    aisles = history.aisles.rename(aisle_household="household_no", aisle_day="day_no")
    asked = requests.select("request_no", "household_no", "day_no")
    past = asked.inner_join(
        aisles, [asked.household_no == aisles.aisle_household, aisles.aisle_day < asked.day_no]
    )
    counted = past.group_by("request_no", "department").aggregate(products=past.products.sum())
    total = counted.products.sum().over(group_by=counted.request_no)
    return counted.select("request_no", "department", department_share=counted.products / total)


def product_signals(history: History, pairs: Any) -> Any:
    """Look back over all households' purchases of a product.

    Parameters
    ----------
    history : History
        The past.
    pairs : ibis table
        Distinct product_id and day_no (the request's day).

    Returns
    -------
    ibis table
        product_id, day_no, popularity_28d (share of visits), popularity_trend (log of the ratio
        to the 28 days before), unit_price (dollars) and discount_share, of the last 28 days or,
        when the product was not sold in them, of all time before.
    """
    sales = history.sales
    counted = ("visits", "quantity", "cents", "discount_cents")
    events = sales.select("product_id", "day_no", *counted, asks=ibis.literal(False))
    # A question stands at the end of the day before the request's, so that a window that ends
    # with its own row never reaches that day.
    questions = pairs.select(
        "product_id",
        day_no=pairs.day_no - 1,
        **{name: ibis.literal(0).cast(sales[name].type()) for name in counted},
        asks=ibis.literal(True),
    )
    both = events.union(questions)

    def total(column: Any, days: int | None) -> Any:
        preceding = None if days is None else days - 1
        return column.sum().over(
            ibis.range_window(
                group_by=both.product_id,
                order_by=both.day_no,
                preceding=preceding,
                following=0,
            )
        )

    sums = both.mutate(
        recent=total(both.visits, MONTH),
        earlier=total(both.visits, 2 * MONTH),
        recent_quantity=total(both.quantity, MONTH),
        recent_cents=total(both.cents, MONTH),
        recent_discount=total(both.discount_cents, MONTH),
        ever_quantity=total(both.quantity, None),
        ever_cents=total(both.cents, None),
        ever_discount=total(both.discount_cents, None),
    )
    asked = sums.filter(sums.asks).mutate(day_no=ibis._.day_no + 1)
    joined = asked.inner_join(_visits_before(history, pairs), "day_no")
    sold = joined.recent_quantity > 0
    cents = ibis.ifelse(sold, joined.recent_cents, joined.ever_cents)
    quantity = ibis.ifelse(sold, joined.recent_quantity, joined.ever_quantity)
    discount = ibis.ifelse(sold, joined.recent_discount, joined.ever_discount)
    # One more visit on each side keeps the trend finite and small counts quiet.
    now = (joined.recent + 1) / (joined.recent_visits + 1)
    before = (joined.earlier - joined.recent + 1) / (joined.earlier_visits + 1)
    return joined.select(
        "product_id",
        "day_no",
        popularity_28d=joined.recent / joined.recent_visits.nullif(0),
        popularity_trend=(now / before).ln(),
        unit_price=cents / 100 / quantity.nullif(0),
        # Given away without a discount: nothing was taken off.
        discount_share=(discount / (cents + discount).nullif(0)).fill_null(0.0),
    )


def _visits_before(history: History, pairs: Any) -> Any:
    """Count all visits in the 28 days before each day, and in the 28 before those."""
    days = pairs.select("day_no").distinct()
    daily = history.visits.group_by(visit_day="day_no").aggregate(visits=ibis._.count())
    past = days.left_join(
        daily, [daily.visit_day < days.day_no, daily.visit_day >= days.day_no - 2 * MONTH]
    )
    recent = past.visit_day >= past.day_no - MONTH
    return past.group_by("day_no").aggregate(
        recent_visits=past.visits.sum(where=recent).fill_null(0),
        earlier_visits=past.visits.sum(where=~recent).fill_null(0),
    )
