"""Which products are ranked for a request: the household's own, then the popular ones.

Belongs here: choosing candidates from history, and their label.
Not here: the features of a candidate (`davy.features.signals`).
"""

from __future__ import annotations

import math
from typing import Any

import ibis

from davy.features.history import History

# A purchase counts half after ten weeks: of 14 to 150 days the best ranking of the valid weeks by
# this count alone (NDCG@10 0.244; 0.241 at 42 days, 0.240 at 150).
HALF_LIFE_DAYS = 70.0
POPULAR_DAYS = 28
# Decayed counts are summed in whole parts of one purchase: exact in any order of rows.
PARTS = 2**30


def own_products(history: History, requests: Any, most: int) -> Any:
    """Look back from each request over the household's own products, the top by decayed count.

    Returns
    -------
    ibis table
        request_no, product_id, times_bought (baskets), decayed_count, days_since_bought,
        mean_gap_days (null before the second day of purchase).
    """
    lines = history.lines.rename(line_household="household_no", line_day="day_no")
    asked = requests.select("request_no", "household_no", "day_no")
    past = asked.inner_join(
        lines, [asked.household_no == lines.line_household, lines.line_day < asked.day_no]
    )
    past = past.mutate(ago=past.day_no - past.line_day)
    weight = (past.ago * (-math.log(2) / HALF_LIFE_DAYS)).exp()
    grouped = past.group_by("request_no", "product_id").aggregate(
        times_bought=past.baskets.sum(),
        parts=(past.baskets * weight * PARTS).round().cast("int64").sum(),
        days_since_bought=past.ago.min(),
        span=past.ago.max() - past.ago.min(),
        days=past.count(),
    )
    own = grouped.mutate(
        decayed_count=grouped.parts / PARTS,
        mean_gap_days=ibis.ifelse(grouped.days > 1, grouped.span / (grouped.days - 1), ibis.null()),
    ).drop("span", "days", "parts")
    place = ibis.row_number().over(
        group_by=own.request_no,
        order_by=[own.decayed_count.desc(), own.days_since_bought, own.product_id],
    )
    ranked = own.mutate(place=place)
    return ranked.filter(ranked.place < most).drop("place")


def popular_products(history: History, requests: Any, most: int) -> Any:
    """Return the products that most visits held in the four weeks before each week.

    Returns
    -------
    ibis table
        first_day (day number of the week's Monday), product_id, place (0 for the most popular).
    """
    mondays = requests.select(first_day=monday(requests.day_no)).distinct()
    sales = history.sales
    counted = (
        mondays.inner_join(
            sales,
            [
                sales.day_no < mondays.first_day,
                sales.day_no >= mondays.first_day - POPULAR_DAYS,
            ],
        )
        .group_by("first_day", "product_id")
        .aggregate(visits=ibis._.visits.sum())
    )
    place = ibis.row_number().over(
        group_by=counted.first_day, order_by=[counted.visits.desc(), counted.product_id]
    )
    ranked = counted.mutate(place=place)
    return ranked.filter(ranked.place < most).drop("visits")


def monday(day_no: Any) -> Any:
    """Return the number of the Monday on or before a day."""
    return (day_no.cast("float64") / 7).floor().cast("int64") * 7


def choose_candidates(requests: Any, own: Any, popular: Any, per_basket: int) -> Any:
    """Take the own products, and fill up with popular ones.

    Returns
    -------
    ibis table
        request_no, product_id and the columns of `own_products` (null for a product that the
        household never bought).
    """
    counts = own.group_by("request_no").aggregate(owned=own.count())
    weekly = requests.select("request_no", first_day=monday(requests.day_no))
    fill = (
        weekly.inner_join(popular, "first_day")
        .anti_join(own, ["request_no", "product_id"])
        .left_join(counts, "request_no")
        .select("request_no", "product_id", "place", owned=ibis._.owned.fill_null(0))
    )
    room = fill.mutate(taken=ibis.row_number().over(group_by=fill.request_no, order_by=fill.place))
    room = room.filter(room.taken + room.owned < per_basket)
    empty = {
        name: ibis.null(own[name].type()).name(name)
        for name in ("times_bought", "decayed_count", "days_since_bought", "mean_gap_days")
    }
    columns = ["request_no", "product_id", *empty]
    return own.select(columns).union(
        room.mutate(**empty).select(columns),
    )


def bought(history: History, requests: Any) -> Any:
    """Return what each request's household really took that day: request_no, product_id."""
    return (
        requests.select("request_no", "household_no", "day_no")
        .inner_join(history.lines, ["household_no", "day_no"])
        .select("request_no", "product_id")
    )
