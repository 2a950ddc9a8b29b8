"""The churn table: who is asked, what is known by then, and what came of it."""

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from tests.fixtures.made_up_shop import FIRST_ID, write_made_up_shop

from davy.core.errors import InvalidInputError, NotFoundError
from davy.data.engine import open_engine
from davy.data.retail import Shop
from davy.features.churn import build_churn

ZONE = "America/New_York"


def built(folder) -> pd.DataFrame:
    with open_engine("test") as connection:
        return build_churn(connection, Shop(folder, ZONE)).to_pandas()


def raw(folder, name="transactions") -> pd.DataFrame:
    return pd.read_parquet(folder / f"{name}.parquet")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return write_made_up_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def table(shop):
    return built(shop)


def visit_days(folder):
    """Return the days of each household's visits, by its number: plain pandas, another way."""
    lines = raw(folder)
    local = lines.transaction_timestamp.dt.tz_localize("UTC").dt.tz_convert(ZONE)
    lines["day"] = local.dt.tz_localize(None).dt.normalize()
    lines["household"] = lines.household_id - FIRST_ID
    return {who: np.sort(part.day.unique()) for who, part in lines.groupby("household")}


def test_rows_and_labels_are_those_of_a_loop_over_households(shop, table):
    days = visit_days(shop)
    first = min(found.min() for found in days.values())
    last = max(found.max() for found in days.values())
    wanted = []
    anchor = first + pd.Timedelta(days=84)
    while anchor + pd.Timedelta(days=27) <= last:
        for who, found in days.items():
            before = found[(found < anchor) & (found >= anchor - pd.Timedelta(days=56))]
            after = found[(found >= anchor) & (found < anchor + pd.Timedelta(days=28))]
            if before.size:
                recency = (anchor - before.max()).days
                wanted.append((anchor, who, recency, "stays" if after.size else "leaves"))
        anchor += pd.Timedelta(days=7)
    found = list(
        table[["anchor", "household", "recency_days", "label"]].itertuples(index=False, name=None)
    )
    assert sorted(found) == sorted(wanted)
    assert (table.label == "leaves").mean() > 0.05
    assert (table.known_at - table.anchor == timedelta(days=28)).all()


def test_signals_are_those_of_a_loop_over_one_household(shop, table):
    row = table[table.visits_84d > 5].iloc[40]
    days = visit_days(shop)[row.household]
    past = days[days < row.anchor]
    late = past >= row.anchor - pd.Timedelta(days=84)
    gaps = np.diff(past) / np.timedelta64(1, "D")
    in_season = gaps[late[1:]]
    assert row.visits_84d == late.sum()
    assert row.tenure_days == (row.anchor - past.min()).days
    assert row.longest_gap_days == gaps.max()
    assert row.mean_gap_days == pytest.approx(in_season.mean())
    assert row.gap_deviation_days == pytest.approx(in_season.std())
    ago = (row.anchor.to_datetime64() - past) / np.timedelta64(1, "D")
    assert row.decayed_visits_28d == pytest.approx((0.5 ** (ago / 28)).sum(), abs=1e-4)
    lines = raw(shop).query("household_id == @row.household + @FIRST_ID")
    local = lines.transaction_timestamp.dt.tz_localize("UTC").dt.tz_convert(ZONE)
    when = local.dt.tz_localize(None).dt.normalize()
    lines = lines[(when < row.anchor) & (when >= row.anchor - pd.Timedelta(days=84))]
    assert row.spend_84d == pytest.approx(lines.sales_value.sum())
    fresh = lines[lines.product_id % 2 == 1].sales_value.sum()
    assert row.fresh_share == pytest.approx(fresh / lines.sales_value.sum())


def test_nothing_after_an_anchor_reaches_its_signals(shop, table, tmp_path):
    day = table.anchor.sort_values().iloc[len(table) // 2]
    for name in ("products", "demographics"):
        raw(shop, name).to_parquet(tmp_path / f"{name}.parquet")
    lines = raw(shop)
    late = lines.transaction_timestamp >= day
    changed = lines.assign(
        sales_value=lines.sales_value.where(~late, 99.0),
        product_id=lines.product_id.where(~late, 11),
        basket_id=lines.basket_id.where(~late, lines.basket_id + 10_000),
    )
    changed.to_parquet(tmp_path / "transactions.parquet")
    known = table.columns.drop(["label"])
    before = table[table.anchor <= day][known].reset_index(drop=True)
    after = built(tmp_path)
    pd.testing.assert_frame_equal(after[after.anchor <= day][known].reset_index(drop=True), before)
    # The change is one that later anchors see.
    late_spend = after[after.anchor > day].spend_28d.sum()
    assert late_spend > 2 * table[table.anchor > day].spend_28d.sum()


def test_one_visit_has_no_gaps(table):
    alone = table[(table.visits_84d == 1) & table.longest_gap_days.isna()]
    assert len(alone)
    assert alone[["mean_gap_days", "gap_deviation_days", "recency_in_gaps"]].isna().all(axis=None)


def test_the_same_files_give_the_same_bits(shop, table):
    pd.testing.assert_frame_equal(built(shop), table, check_exact=True)


def test_no_raw_id_is_in_the_table(table):
    assert not (table.select_dtypes("number") >= FIRST_ID).any(axis=None)
    assert table.age.isna().mean() > 0.3
    assert set(table.age.dropna()) == {"19-24", "25-34", "65+"}


def test_what_is_missing_or_broken_is_named(shop, tmp_path):
    with pytest.raises(NotFoundError, match="no such file"):
        built(tmp_path)
    for name in ("products", "demographics"):
        raw(shop, name).to_parquet(tmp_path / f"{name}.parquet")
    lines = raw(shop)
    lines[lines.week < 5].to_parquet(tmp_path / "transactions.parquet")
    with pytest.raises(InvalidInputError, match="days of transactions are too few"):
        built(tmp_path)
    lines.drop(columns="retail_disc").to_parquet(tmp_path / "transactions.parquet")
    with pytest.raises(InvalidInputError, match="no column 'retail_disc'"):
        built(tmp_path)
    lines.assign(sales_value=np.nan).to_parquet(tmp_path / "transactions.parquet")
    with pytest.raises(InvalidInputError, match="sales value"):
        built(tmp_path)
    raw(shop, "demographics").iloc[[0, 0]].to_parquet(tmp_path / "demographics.parquet")
    lines.to_parquet(tmp_path / "transactions.parquet")
    with pytest.raises(InvalidInputError, match="holds a household twice"):
        built(tmp_path)
