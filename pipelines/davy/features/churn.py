"""Households that may stop to come: one row per active household and weekly anchor.

Belongs here: the anchors, who is asked about, the label. Not here: the signals
(`davy.features.shoppers`).

At the beginning of an anchor's day a household is asked about when it came in the 56 days before.
The label is 1 when it does not come on that day or the 27 after, so it is known 28 days later;
anchors whose label the data do not reach are left out.
"""

from __future__ import annotations

from typing import Any

import ibis

from davy.core.errors import InvalidInputError
from davy.data.retail import DEMOGRAPHICS, Shop, read_households, read_lines
from davy.features.shoppers import EPOCH, SEASON, look_back, read_visits

ACTIVE_DAYS = 56
HORIZON_DAYS = 28
EVERY_DAYS = 7


def build_churn(connection: Any, shop: Shop) -> Any:
    """Return the table: household, anchor (a timestamp), known_at, label, signals, demographics.

    Raises
    ------
    NotFoundError, InvalidInputError
        A file of the shop is missing or broken, or its days are too few for one anchor.
    """
    households = read_households(connection, shop)
    lines = connection.create_table("lines", read_lines(connection, shop, households))
    visits = read_visits(connection, lines)
    span = visits.aggregate(first=visits.day_no.min(), last=visits.day_no.max())
    [ends] = span.to_pyarrow().to_pylist()
    first, last = int(ends["first"]), int(ends["last"])
    days = range(first + SEASON, last - HORIZON_DAYS + 2, EVERY_DAYS)
    if not days:
        raise InvalidInputError(
            f"{last - first + 1} days of transactions are too few: {SEASON} before an anchor and"
            f" {HORIZON_DAYS} from it on are needed",
            where=str(shop.path("transactions")),
        )
    return churn_rows(visits, households, list(days))


def churn_rows(visits: Any, households: Any, anchors: list[int]) -> Any:
    """Return the rows of some anchors, given as days from `davy.features.shoppers.EPOCH`."""
    days = ibis.memtable({"day_no": anchors}, schema={"day_no": "int64"})
    seen = visits.select("household", visit_day="day_no")
    near = days.inner_join(
        seen,
        [
            seen.visit_day >= days.day_no - ACTIVE_DAYS,
            seen.visit_day < days.day_no + HORIZON_DAYS,
        ],
    )
    asked = near.group_by("household", "day_no").aggregate(
        active=(near.visit_day < near.day_no).any(), came=(near.visit_day >= near.day_no).any()
    )
    asked = asked.filter(asked.active)
    rows = asked.inner_join(look_back(visits, asked), ["household", "day_no"])
    rows = rows.inner_join(households.select("household", *DEMOGRAPHICS), "household")
    anchor = ibis.literal(EPOCH).cast("timestamp") + rows.day_no.as_interval("D")
    told = rows.mutate(
        anchor=anchor,
        known_at=anchor + ibis.interval(days=HORIZON_DAYS),
        label=rows.came.ifelse("stays", "leaves"),
    )
    return told.drop("active", "came", "day_no").order_by("anchor", "household")
