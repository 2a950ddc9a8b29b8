"""Nothing from a request's day or later reaches its features; what came before does."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from davy.data.task import PARTS
from davy.features.build import build
from davy.features.registry import DEFINITIONS, Definition

KEYS = ["request_id", "product_id"]
DEPARTMENTS = ["GROCERY", "PRODUCE", "MEAT", "DELI", "PASTRY"]
# What a request asks and what came of it: these may know its day.
OUTCOME = ["label", "basket_size", "time", "week"]


@pytest.fixture(scope="module")
def original(small_task, small_transactions, write_prepared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("original")
    build(small_task, write_prepared(small_transactions, folder / "data"), folder / "features")
    return folder / "features"


def one_request(features: Path, part: str) -> str:
    """Return a request in the middle of a part, so that there is data on both sides."""
    ids = pd.read_parquet(features / f"{part}.parquet").request_id.unique()
    return str(ids[len(ids) // 2])


def rows_of(features: Path, part: str, request: str) -> pd.DataFrame:
    rows = pd.read_parquet(features / f"{part}.parquet")
    return rows[rows.request_id == request].drop(columns=OUTCOME).reset_index(drop=True)


def different(left: pd.DataFrame, right: pd.DataFrame) -> list[str]:
    """Return the columns that do not hold the same bits."""
    assert list(left.columns) == list(right.columns)
    assert len(left) == len(right) > 0
    return [
        name
        for name in left
        if (
            not left[name].equals(right[name])
            if left[name].dtype == object
            else left[name].to_numpy().tobytes() != right[name].to_numpy().tobytes()
        )
    ]


def day_of(request: str) -> object:
    return pd.Timestamp(request.rsplit("-", 1)[1]).date()


def with_other_future(transactions: pd.DataFrame, request: str, seed: int) -> pd.DataFrame:
    """Change every line on or after the request's day, drop some and add others.

    The request's own visit stays, with other products: without it there is nothing to ask.
    """
    rng = np.random.default_rng(seed)
    day, household = day_of(request), request.split("-", maxsplit=1)[0]
    past = transactions[transactions.day < day]
    later = transactions[transactions.day >= day].copy()
    own = (later.household_id == household) & (later.day == day)
    later["product_id"] = rng.integers(100, 160, len(later))
    later["quantity"] = rng.integers(1, 90, len(later))
    later["sales_value"] = rng.uniform(0, 150, len(later)).round(2)
    later["discount"] = rng.uniform(0, 20, len(later)).round(2)
    later.loc[own, "product_id"] = np.arange(own.sum()) + 130
    kept = later[own | (rng.random(len(later)) < 0.6)]
    added = later[~own].sample(frac=0.5, random_state=seed).assign(household_id=household)
    added = added[added.day > day].assign(basket_id=lambda frame: frame.basket_id + 10**6)
    mixed = pd.concat([past, kept, added])
    mixed["department"] = [DEPARTMENTS[(product - 100) % 5] for product in mixed.product_id]
    return mixed.sample(frac=1, random_state=seed)


@pytest.mark.parametrize("part", PARTS)
def test_another_future_gives_the_same_bits(
    part, original, small_task, small_transactions, write_prepared, tmp_path
):
    request = one_request(original, part)
    changed = with_other_future(small_transactions, request, seed=len(part))

    build(small_task, write_prepared(changed, tmp_path / "data"), tmp_path / "features")

    # The code of a department is its rank over the train weeks: a name, not a measurement.
    named_later = {"department"} if part == "train" else set()
    found = different(
        rows_of(original, part, request), rows_of(tmp_path / "features", part, request)
    )
    assert set(found) <= named_later


def test_the_proof_finds_a_leak(original, small_task, small_transactions, write_prepared, tmp_path):
    request = one_request(original, "test")
    leaky = {
        **DEFINITIONS,
        "unit_price": Definition(
            "unit_price", "knows the answer", lambda t: t.label.fill_null(0), unit="dollar"
        ),
    }
    found = []
    for name, transactions in (
        ("one", small_transactions),
        ("other", with_other_future(small_transactions, request, seed=3)),
    ):
        data = write_prepared(transactions, tmp_path / name / "data")
        build(small_task, data, tmp_path / name / "features", definitions=leaky)
        found.append(rows_of(tmp_path / name / "features", "test", request))

    assert different(*found) == ["unit_price"]


def test_another_past_changes_every_feature(
    original, small_task, small_transactions, write_prepared, tmp_path
):
    request = one_request(original, "replay")
    day, household = day_of(request), request.split("-")[0]
    rng = np.random.default_rng(5)
    own = small_transactions.household_id == household
    eve = small_transactions.day == day - pd.Timedelta(days=1)
    past = small_transactions.day < day
    drop = past & (rng.random(len(small_transactions)) < 0.4) | (own & eve)
    changed = small_transactions[~drop].copy()
    early = changed.day < day
    changed.loc[early, "sales_value"] = (changed.loc[early, "sales_value"] * 1.3).round(2)
    changed.loc[early, "discount"] += 0.25
    visit = (
        changed[(changed.household_id == household) & ~early]
        .iloc[[0, 1, 2, 0, 1, 2]]
        .assign(day=day - pd.Timedelta(days=1), basket_id=[5, 6, 7, 8, 9, 10], week=1)
    )
    changed = pd.concat([changed, visit])

    build(small_task, write_prepared(changed, tmp_path / "data"), tmp_path / "features")

    before = rows_of(original, "replay", request)
    after = rows_of(tmp_path / "features", "replay", request)
    both = before.merge(after, on=KEYS, suffixes=("_before", "_after"))
    assert len(both) > 5
    unchanged = [
        feature.name
        for feature in small_task.features
        if both[f"{feature.name}_before"].equals(both[f"{feature.name}_after"])
    ]
    # A product stays in its department whatever is bought.
    assert unchanged == ["department"]
