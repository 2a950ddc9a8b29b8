"""How a household shops, seen from a day: recency, frequency, money, habits.

Belongs here: visits by day and what looks back over them. Not here: which days are asked about and
what is to be predicted (`davy.features.churn`, `davy.features.coupons`).

Every join says "before the day that asks". Sums are of integers (cents, days, millionths): they do
not depend on the order of rows, so the same history gives the same bits.
"""

from __future__ import annotations

from datetime import date
from typing import Any

import ibis

WINDOWS = (7, 14, 28, 56, 84)
SEASON = 84
WEEK = 7
# A gap that a household seldom makes by habit.
LONG_GAP = 21
HALF_LIVES = (7, 28)
MILLION = 1_000_000
FRESH = ("PRODUCE", "MEAT", "MEAT-PCKGD", "SEAFOOD", "SEAFOOD-PCKGD", "DELI", "SALAD BAR")
# Days are counted from here; a time of the source is UTC, a day is the shop's.
EPOCH = date(2000, 1, 1)


def day_number(day: Any) -> Any:
    """Return the days from `EPOCH` to a date column."""
    return day.delta(ibis.literal(EPOCH), unit="day")


def read_visits(connection: Any, lines: Any) -> Any:
    """Sum a shop's lines to one row per household and day with a visit.

    Returns
    -------
    ibis table
        household, day_no, baskets, products, departments, cents, fresh_cents,
        private_cents, discount_cents, coupon_cents, gap (days since the visit before, null at the
        first).
    """
    rows = lines.mutate(day_no=day_number(lines.day))
    fresh = rows.department.isin(FRESH).fill_null(False)
    private = (rows.brand == "Private").fill_null(False)
    daily = rows.group_by("household", "day_no").aggregate(
        baskets=rows.basket_id.nunique(),
        products=rows.product_id.nunique(),
        departments=rows.department.nunique(),
        cents=rows.cents.sum(),
        fresh_cents=rows.cents.sum(where=fresh).fill_null(0),
        private_cents=rows.cents.sum(where=private).fill_null(0),
        discount_cents=rows.discount_cents.sum(),
        coupon_cents=rows.coupon_cents.sum(),
    )
    before = daily.day_no.lag().over(group_by=daily.household, order_by=daily.day_no)
    return connection.create_table("visits", daily.mutate(gap=daily.day_no - before))


def look_back(visits: Any, asked: Any) -> Any:
    """Describe how households shopped before the days that ask.

    Parameters
    ----------
    visits : ibis table
        As `read_visits` returns.
    asked : ibis table
        household, day_no: one row each.

    Returns
    -------
    ibis table
        household, day_no and the signals, in days, dollars, visits and shares; null where there
        is nothing to tell (no earlier visit, no spend). Pairs without any earlier visit are not
        in it.
    """
    seen = visits.rename(visit_day="day_no", who="household")
    past = asked.select("household", "day_no").inner_join(
        seen, [asked.household == seen.who, seen.visit_day < asked.day_no]
    )
    ago = past.day_no - past.visit_day
    late = ago <= SEASON
    told = past.group_by("household", "day_no").aggregate(
        recency_days=ago.min(),
        tenure_days=ago.max(),
        **{f"visits_{days}d": (ago <= days).sum() for days in WINDOWS},
        weeks_active_12=((ago - 1) // WEEK).nunique(where=late),
        longest_gap_days=past.gap.max(),
        long_gaps=(past.gap >= LONG_GAP).sum().fill_null(0),
        gap_sum=past.gap.sum(where=late),
        gap_squares=(past.gap * past.gap).sum(where=late),
        gap_count=past.gap.count(where=late),
        cents_28=past.cents.sum(where=ago <= WINDOWS[2]).fill_null(0),
        **{
            name: past[name].sum(where=late).fill_null(0)
            for name in (
                "cents", "fresh_cents", "private_cents", "discount_cents", "coupon_cents",
                "products", "departments",
            )
        },
        coupon_days=(past.coupon_cents > 0).sum(where=late).fill_null(0),
        **{
            f"decayed_{life}d": (0.5 ** (ago / life) * MILLION).round().cast("int64").sum()
            for life in HALF_LIVES
        },
    )  # fmt: skip
    seldom = told.gap_count.nullif(0)
    mean = told.gap_sum / seldom
    variance = told.gap_squares / seldom - mean * mean
    spend = told.cents.nullif(0)
    listed = (told.cents + told.discount_cents).nullif(0)
    season = told[f"visits_{SEASON}d"].nullif(0)
    return told.select(
        "household", "day_no", "recency_days", "tenure_days",
        *(f"visits_{days}d" for days in WINDOWS),
        "weeks_active_12", "longest_gap_days", "long_gaps", "coupon_days",
        mean_gap_days=mean,
        # The greater of null and 0 would be 0.
        gap_deviation_days=mean.notnull().ifelse(ibis.greatest(variance, 0.0).sqrt(), ibis.null()),
        recency_in_gaps=told.recency_days / mean.nullif(0),
        spend_28d=told.cents_28 / 100,
        spend_84d=told.cents / 100,
        spend_per_visit=told.cents / 100 / season,
        products_per_visit=told.products / season,
        departments_per_visit=told.departments / season,
        fresh_share=told.fresh_cents / spend,
        private_share=told.private_cents / spend,
        discount_share=told.discount_cents / listed,
        coupon_share=told.coupon_cents / listed,
        **{f"decayed_visits_{life}d": told[f"decayed_{life}d"] / MILLION for life in HALF_LIVES},
    )  # fmt: skip
