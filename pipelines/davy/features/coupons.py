"""Households that a coupon campaign was sent to: one row per household and campaign.

Belongs here: which campaigns, what a household did with earlier ones, the label. Not here: how it
shops otherwise (`davy.features.shoppers`).

On the campaign's first day a household is asked about. The label is yes when it redeems one of the
campaign's coupons or more, so it is known the day after the campaign's last. Campaigns that the
data do not hold whole are left out; what happened in them before still counts as history.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.datatypes as dt

from davy.core.errors import InvalidInputError
from davy.data.retail import DEMOGRAPHICS, Shop, read_households, read_lines
from davy.data.sources import read_columns
from davy.features.shoppers import EPOCH, SEASON, day_number, look_back, read_visits


@dataclass(frozen=True, slots=True)
class Campaigns:
    """Tables of a shop's campaigns.

    ``told``: campaign_id, campaign_type, starts, ends (days), coupons, products.
    ``sent``: household, campaign_id, starts.
    ``redeemed``: household, campaign_id, redeemed_on (a day).
    ``promoted``: campaign_id, product_id.
    """

    told: Any
    sent: Any
    redeemed: Any
    promoted: Any


def build_coupon_redemption(connection: Any, shop: Shop) -> Any:
    """Return the table: household, started, known_at, label, signals, demographics.

    Raises
    ------
    NotFoundError, InvalidInputError
        A file of the shop is missing or broken, or holds no campaign whole.
    """
    households = read_households(connection, shop)
    lines = connection.create_table("lines", read_lines(connection, shop, households))
    visits = read_visits(connection, lines)
    campaigns = read_campaigns(connection, shop, households)
    asked = _asked(connection, visits, campaigns)
    if not int(asked.count().to_pyarrow().as_py()):
        raise InvalidInputError(
            "no campaign begins and ends within the transactions and was sent to one of their"
            " households",
            where=str(shop.path("campaign_descriptions")),
        )
    rows = (
        asked.left_join(look_back(visits, asked.distinct(on=["household", "day_no"])), _PAIR)
        .drop("household_right", "day_no_right")
        .left_join(_past(asked, campaigns), _KEY)
        .drop("household_right", "campaign_id_right")
        .left_join(_liking(connection, asked, lines, campaigns), _KEY)
        .drop("household_right", "campaign_id_right")
        .inner_join(households.select("household", *DEMOGRAPHICS), "household")
    )
    begin = ibis.literal(EPOCH).cast("timestamp")
    told = rows.mutate(
        started=begin + rows.day_no.as_interval("D"),
        known_at=begin + (rows.ends + 1).as_interval("D"),
        campaign_days=rows.ends - rows.day_no + 1,
        label=rows.took.ifelse("yes", "no"),
        liked_products=rows.liked_products.fill_null(0),
        liked_share=(rows.liked_cents.fill_null(0) / 100) / rows.spend_84d.nullif(0),
        liked_days=rows.liked_days.fill_null(0),
    )
    return told.drop("day_no", "ends", "took", "liked_cents").order_by(
        "started", "campaign_id", "household"
    )


_KEY = ["household", "campaign_id"]
_PAIR = ["household", "day_no"]


def read_campaigns(connection: Any, shop: Shop, households: Any) -> Campaigns:
    """Read campaigns, whom they were sent to, their coupons and what was redeemed.

    Raises
    ------
    NotFoundError, InvalidInputError
        A file is missing or lacks a column.
    """

    def read(name: str, **wanted: Any) -> Any:
        return read_columns(connection, shop.path(name), wanted)

    numbers = households.select("household_id", "household")
    dates = read(
        "campaign_descriptions",
        campaign_id=dt.int64, campaign_type=dt.string,
        start_date=dt.Timestamp(), end_date=dt.Timestamp(),
    )  # fmt: skip
    coupons = read("coupons", campaign_id=dt.int64, coupon_upc=dt.int64, product_id=dt.int64)
    sizes = coupons.group_by("campaign_id").aggregate(
        coupons=coupons.coupon_upc.nunique(), products=coupons.product_id.nunique()
    )
    # These dates are the shop's days already: they have no time.
    told = dates.left_join(sizes, "campaign_id").select(
        "campaign_id",
        "campaign_type",
        starts=day_number(dates.start_date.date()),
        ends=day_number(dates.end_date.date()),
        coupons=ibis._.coupons.fill_null(0),
        products=ibis._.products.fill_null(0),
    )
    told = connection.create_table("campaigns_told", told)
    sent = read("campaigns", household_id=dt.string, campaign_id=dt.int64).distinct()
    sent = sent.inner_join(numbers, "household_id").inner_join(
        told.select("campaign_id", "starts"), "campaign_id"
    )
    redeemed = read(
        "coupon_redemptions",
        household_id=dt.string, campaign_id=dt.int64, redemption_date=dt.Timestamp(),
    ).inner_join(numbers, "household_id")  # fmt: skip
    redeemed = redeemed.select(
        "household", "campaign_id", redeemed_on=day_number(redeemed.redemption_date.date())
    )
    return Campaigns(
        told=told,
        sent=connection.create_table("sent", sent.select(*_KEY, "starts")),
        redeemed=connection.create_table("redeemed", redeemed),
        promoted=connection.create_table(
            "promoted", coupons.select("campaign_id", "product_id").distinct()
        ),
    )


def _asked(connection: Any, visits: Any, campaigns: Campaigns) -> Any:
    """Return household, campaign_id, day_no and what is known of the campaign; and whether it took.

    Of the campaign itself its own dates and coupons are known on its first day.
    """
    span = visits.aggregate(first=visits.day_no.min(), last=visits.day_no.max())
    [ends] = span.to_pyarrow().to_pylist()
    told = campaigns.told
    whole = told.filter(told.starts >= int(ends["first"] or 0), told.ends <= int(ends["last"] or 0))
    redeemed = campaigns.redeemed.group_by(*_KEY).aggregate(coupons_taken=ibis._.count())
    rows = campaigns.sent.drop("starts").inner_join(whole, "campaign_id")
    rows = rows.left_join(redeemed, _KEY).drop("household_right", "campaign_id_right")
    asked = rows.select(
        "household", "campaign_id", "campaign_type", "ends",
        day_no=rows.starts,
        campaign_coupons=rows.coupons,
        campaign_products=rows.products,
        took=rows.coupons_taken.notnull(),
    )  # fmt: skip
    return connection.create_table("asked", asked)


def _past(asked: Any, campaigns: Campaigns) -> Any:
    """Return what a household was sent and redeemed before the day that asks."""
    keyed = asked.select("household", "campaign_id", "day_no", "campaign_type")
    types = campaigns.told.select(type_of="campaign_id", old_type="campaign_type")
    sent = campaigns.sent.select(who="household", old_campaign="campaign_id", starts="starts")
    received = keyed.left_join(sent, [keyed.household == sent.who, sent.starts < keyed.day_no])
    received = received.group_by(*_KEY).aggregate(past_campaigns=received.old_campaign.count())
    old = campaigns.redeemed.select(
        "redeemed_on", who="household", old_campaign="campaign_id"
    ).inner_join(types, ibis._.old_campaign == types.type_of)
    took = keyed.left_join(old, [keyed.household == old.who, old.redeemed_on < keyed.day_no])
    ago = took.day_no - took.redeemed_on
    same = (took.old_type == took.campaign_type).fill_null(False)
    took = took.group_by(*_KEY).aggregate(
        past_redemptions=took.old_campaign.count(),
        past_redeemed_campaigns=took.old_campaign.nunique(),
        past_redemptions_of_type=took.old_campaign.count(where=same),
        redemptions_84d=(ago <= SEASON).sum().fill_null(0),
        days_since_redemption=ago.min(),
    )
    both = received.inner_join(took, _KEY)
    return both.mutate(past_take_rate=both.past_redeemed_campaigns / both.past_campaigns.nullif(0))


def _liking(connection: Any, asked: Any, lines: Any, campaigns: Campaigns) -> Any:
    """Return what a household bought of a campaign's products in the 84 days before it."""
    bought = lines.group_by("household", "product_id", "day").aggregate(cents=lines.cents.sum())
    bought = bought.semi_join(campaigns.promoted, "product_id")
    bought = connection.create_table(
        "bought_promoted",
        bought.select("product_id", "cents", who="household", bought_on=day_number(bought.day)),
    )
    keyed = asked.select("household", "campaign_id", "day_no")
    before = keyed.inner_join(
        bought,
        [
            keyed.household == bought.who,
            bought.bought_on < keyed.day_no,
            bought.bought_on >= keyed.day_no - SEASON,
        ],
    )
    liked = before.semi_join(campaigns.promoted, ["campaign_id", "product_id"])
    return liked.group_by(*_KEY).aggregate(
        liked_products=liked.product_id.nunique(),
        liked_days=liked.bought_on.nunique(),
        liked_cents=liked.cents.sum(),
    )
