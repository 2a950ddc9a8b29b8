"""The table of campaigns and households: who is asked, what is known by then, what came of it."""

import numpy as np
import pandas as pd
import pytest
from tests.fixtures.made_up_shop import FIRST_ID, write_made_up_shop

from davy.core.errors import InvalidInputError
from davy.data.engine import open_engine
from davy.data.retail import Shop
from davy.features.coupons import build_coupon_redemption

FILES = (
    "transactions", "products", "demographics",
    "campaign_descriptions", "campaigns", "coupons", "coupon_redemptions",
)  # fmt: skip


def built(folder) -> pd.DataFrame:
    with open_engine("test") as connection:
        return build_coupon_redemption(connection, Shop(folder, "America/New_York")).to_pandas()


def raw(folder) -> dict[str, pd.DataFrame]:
    """Return the raw tables, with the numbers that households have in the built one."""
    tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in FILES}
    for table in tables.values():
        if "household_id" in table:
            table["household"] = table.household_id - FIRST_ID
    return tables


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return write_made_up_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def table(shop):
    return built(shop)


def test_rows_are_the_campaigns_that_the_data_hold_whole(shop, table):
    tables = raw(shop)
    told = tables["campaign_descriptions"]
    assert told.campaign_id.size == 11
    # The first began before the transactions, the last ends after them.
    asked = table.groupby("campaign_id").size()
    sent = tables["campaigns"].groupby("campaign_id").size()
    pd.testing.assert_series_equal(asked, sent.loc[2:10], check_names=False)
    took = set(
        zip(*tables["coupon_redemptions"][["household", "campaign_id"]].to_numpy().T, strict=True)
    )
    pairs = zip(table.household, table.campaign_id, strict=True)
    assert [("yes" if pair in took else "no") for pair in pairs] == list(table.label)
    ends = told.set_index("campaign_id").end_date
    after = ends.loc[table.campaign_id].to_numpy() + np.timedelta64(1, "D")
    np.testing.assert_array_equal(table.known_at.to_numpy(), after)


def test_the_past_is_that_of_a_loop_over_one_household(shop, table):
    tables = raw(shop)
    late = table[(table.past_redemptions > 2) & (table.campaign_id > 6)]
    assert len(late) > 5
    types = tables["campaign_descriptions"].set_index("campaign_id").campaign_type
    for row in late.head(5).itertuples():
        old = tables["coupon_redemptions"].query("household == @row.household")
        old = old[old.redemption_date < row.started]
        sent = tables["campaigns"].query("household == @row.household").campaign_id
        starts = tables["campaign_descriptions"].set_index("campaign_id").start_date.loc[sent]
        assert row.past_redemptions == len(old)
        assert row.past_redeemed_campaigns == old.campaign_id.nunique()
        assert row.past_campaigns == (starts < row.started).sum()
        assert row.past_take_rate == old.campaign_id.nunique() / (starts < row.started).sum()
        assert row.days_since_redemption == (row.started - old.redemption_date.max()).days
        of_type = types.loc[old.campaign_id].to_numpy() == row.campaign_type
        assert row.past_redemptions_of_type == of_type.sum()


def test_what_is_liked_is_what_was_bought_of_the_campaigns_products(shop, table):
    tables = raw(shop)
    row = table[(table.liked_products > 3) & (table.campaign_id > 5)].iloc[0]
    products = tables["coupons"].query("campaign_id == @row.campaign_id").product_id.unique()
    lines = tables["transactions"].query("household == @row.household")
    local = lines.transaction_timestamp.dt.tz_localize("UTC").dt.tz_convert("America/New_York")
    day = local.dt.tz_localize(None).dt.normalize()
    lines = lines[(day < row.started) & (day >= row.started - pd.Timedelta(days=84))]
    liked = lines[lines.product_id.isin(products)]
    assert row.liked_products == liked.product_id.nunique()
    assert row.liked_share == pytest.approx(liked.sales_value.sum() / lines.sales_value.sum())
    assert row.campaign_products == len(products)
    assert row.campaign_coupons == 2


def test_nothing_from_a_campaigns_first_day_on_reaches_its_signals(shop, table, tmp_path):
    day = table.started.sort_values().iloc[len(table) // 2]
    tables = raw(shop)
    for name in FILES:
        pd.read_parquet(shop / f"{name}.parquet").to_parquet(tmp_path / f"{name}.parquet")
    lines = pd.read_parquet(shop / "transactions.parquet")
    late = lines.transaction_timestamp >= day
    lines.assign(
        sales_value=lines.sales_value.where(~late, 50.0),
        product_id=lines.product_id.where(~late, 11),
    ).to_parquet(tmp_path / "transactions.parquet")
    old = pd.read_parquet(shop / "coupon_redemptions.parquet")
    gone = old[old.redemption_date < day]
    assert 0 < len(gone) < len(tables["coupon_redemptions"])
    gone.to_parquet(tmp_path / "coupon_redemptions.parquet")
    known = table.columns.drop("label")
    after = built(tmp_path)
    pd.testing.assert_frame_equal(
        after[after.started <= day][known].reset_index(drop=True),
        table[table.started <= day][known].reset_index(drop=True),
    )
    assert after.past_redemptions.sum() < table.past_redemptions.sum()


def test_without_a_whole_campaign_the_fault_is_named(shop, tmp_path):
    for name in FILES:
        pd.read_parquet(shop / f"{name}.parquet").to_parquet(tmp_path / f"{name}.parquet")
    told = pd.read_parquet(shop / "campaign_descriptions.parquet")
    told[told.campaign_id == 1].to_parquet(tmp_path / "campaign_descriptions.parquet")
    with pytest.raises(InvalidInputError, match="no campaign begins and ends"):
        built(tmp_path)
