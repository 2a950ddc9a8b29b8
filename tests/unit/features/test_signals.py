"""Every feature against a plain computation in pandas, request by request."""

import math
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from davy.features.build import build


@pytest.fixture(scope="module")
def built(small_task, small_transactions, write_prepared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("signals")
    build(small_task, write_prepared(small_transactions, folder / "data"), folder / "features")
    return pd.read_parquet(folder / "features" / "test.parquet")


def expected(transactions: pd.DataFrame, household: str, day: object, product: int) -> dict:
    past = transactions[transactions.day < day]
    ago = np.array([(day - other).days for other in past.day])
    mine = past[past.household_id == household]
    mine_ago = ago[(past.household_id == household).to_numpy()]
    own = mine.assign(ago=mine_ago)[mine.product_id == product]
    days = np.sort(own.ago.unique())
    baskets = own.groupby("ago").basket_id.nunique()
    everyone = past.assign(ago=ago)
    visits = everyone.drop_duplicates(["household_id", "day"])
    sold = everyone[everyone.product_id == product].drop_duplicates(["household_id", "day"])
    recent, earlier = (sold.ago <= 28).sum(), ((sold.ago > 28) & (sold.ago <= 56)).sum()
    recent_visits = (visits.ago <= 28).sum()
    earlier_visits = ((visits.ago > 28) & (visits.ago <= 56)).sum()
    lines = everyone[everyone.product_id == product]
    priced = lines[lines.ago <= 28] if (lines.ago <= 28).any() else lines
    department = transactions[transactions.product_id == product].department.iloc[0]
    products = mine.drop_duplicates(["day", "product_id"])
    return {
        "days_since_basket": min(mine_ago.min(), 60),
        "baskets_90d": mine[mine_ago <= 90].basket_id.nunique(),
        "spend_28d": mine[mine_ago <= 28].sales_value.sum(),
        "times_bought": own.basket_id.nunique(),
        "decayed_count": sum(n * 0.5 ** (a / 70) for a, n in baskets.items()),
        "days_since_bought": days.min() if len(days) else math.nan,
        "mean_gap_days": np.diff(days).mean() if len(days) > 1 else math.nan,
        "department_share": (products.department == department).mean(),
        "popularity_28d": recent / recent_visits,
        "popularity_trend": math.log(
            ((recent + 1) / (recent_visits + 1)) / ((earlier + 1) / (earlier_visits + 1))
        ),
        "unit_price": priced.sales_value.sum() / priced.quantity.sum(),
        "discount_share": priced.discount.sum()
        / (priced.discount.sum() + priced.sales_value.sum()),
    }


def test_features_are_what_they_say(built, small_transactions, small_task):
    names = [feature.name for feature in small_task.features if feature.name != "department"]
    for _, row in built.sample(60, random_state=2).iterrows():
        day = pd.Timestamp(row.request_id.rsplit("-", 1)[1]).date()
        wanted = expected(small_transactions, row.household_id, day, row.product_id)
        assert set(wanted) == set(names)
        for name in names:
            assert row[name] == pytest.approx(wanted[name], rel=1e-5, abs=1e-6, nan_ok=True), name


def test_label_is_what_the_household_took_that_day(built, small_transactions):
    for request, rows in list(built.groupby("request_id"))[:20]:
        day = pd.Timestamp(request.rsplit("-", 1)[1]).date()
        taken = small_transactions[
            (small_transactions.household_id == rows.household_id.iloc[0])
            & (small_transactions.day == day)
        ].product_id
        assert set(rows[rows.label == 1].product_id) == set(rows.product_id) & set(taken)
        assert (rows.basket_size == taken.nunique()).all()


def test_no_visit_ever_means_the_highest_code_and_lapsed(
    small_task, small_transactions, write_prepared, tmp_path
):
    newcomer = small_transactions.household_id == "0000000000000003"
    first = small_transactions[newcomer & (small_transactions.week >= 11)]
    first = first[first.groupby("day").product_id.transform("nunique") >= 5]
    day = first.day.min()
    assert day - timedelta(days=21) < first.day.max()
    late = small_transactions[~newcomer | (small_transactions.day >= day)]

    build(small_task, write_prepared(late, tmp_path / "data"), tmp_path / "features")

    rows = pd.read_parquet(tmp_path / "features" / "test.parquet")
    rows = rows[rows.request_id == f"0000000000000003-{day:%Y%m%d}"]
    assert len(rows) == 30
    assert (rows.days_since_basket == 60).all()
    assert (rows.segment_lapse == "lapsed").all()
    assert (rows.times_bought == 0).all()
    assert rows.days_since_bought.isna().all()
