"""The data step as a whole: its files, what it drops, and how it fails."""

import hashlib
import json
from datetime import date

import pandas as pd
import pytest

from davy.core.errors import InvalidInputError, NotFoundError
from davy.core.files import read_model
from davy.data.prepare import DataReport, prepare
from davy.data.pseudonym import pseudonym
from davy.data.settings import PipelineSettings
from davy.data.task import parse_task, task_text

KEY = b"a key that is only for tests"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "run" / "data"


def test_rows_are_clean_named_and_in_the_order_of_time(
    write_raw, raw_transactions, raw_products, settings, out
):
    report = prepare(write_raw(raw_transactions, raw_products), out, settings=settings)
    rows = pd.read_parquet(out / "transactions.parquet")

    assert list(rows.columns) == [
        "household_id", "basket_id", "product_id", "department", "quantity", "sales_value",
        "unit_price", "discount", "time", "day", "week",
    ]  # fmt: skip
    assert len(rows) == report.rows == len(raw_transactions)
    assert rows.time.is_monotonic_increasing
    assert set(rows.household_id) == {pseudonym(str(n), KEY) for n in range(1, 21)}
    assert rows.unit_price.equals(rows.sales_value / rows.quantity)
    assert (rows.discount == 0.25).all()
    assert read_model(out / "quality.json", DataReport) == report
    assert sorted(path.name for path in out.iterdir()) == [
        "products.parquet", "quality.json", "transactions.parquet",
    ]  # fmt: skip


def test_a_day_begins_at_the_shops_midnight(
    write_raw, raw_transactions, raw_products, settings, out
):
    late = raw_transactions.copy()
    # 03:30 UTC on 3 January is still the evening of the 2nd in New York.
    late.loc[late.basket_id == 101, "transaction_timestamp"] = pd.Timestamp("2017-01-03 03:30")
    task = write_raw(late, raw_products)
    days = {}
    for zone in ("America/New_York", "UTC"):
        prepare(
            parse_task(task_text(task), [f"data.timezone={zone}"]), out / zone, settings=settings
        )
        rows = pd.read_parquet(out / zone / "transactions.parquet")
        [days[zone]] = rows[rows.basket_id == 101].day.unique()
        assert rows[rows.basket_id == 101].time.iloc[0].hour == 3
    assert days == {"America/New_York": date(2017, 1, 2), "UTC": date(2017, 1, 3)}


def test_bad_rows_are_dropped_and_reported(
    write_raw, raw_transactions, raw_products, settings, out
):
    bad = raw_transactions.copy()
    bad.loc[0, "quantity"] = 0
    bad.loc[1, "quantity"] = 89638
    bad.loc[2, "product_id"] = 999
    bad = pd.concat([bad, bad.iloc[[7]]])
    report = prepare(write_raw(bad, raw_products), out, settings=settings)
    failing = {check.name: check.failing for check in report.checks if check.failing}
    assert failing == {
        "quantity_not_zero": 1,
        "quantity_is_count": 1,
        "department_known": 1,
        "lines_once": 1,
    }
    assert (report.rows_read, report.rows) == (len(bad), len(bad) - 4)
    assert len(pd.read_parquet(out / "transactions.parquet")) == report.rows


def test_too_many_failing_rows_stop_the_step(
    write_raw, raw_transactions, raw_products, settings, out
):
    bad = raw_transactions.copy()
    bad.loc[:4, "sales_value"] = -1.0
    with pytest.raises(InvalidInputError) as caught:
        prepare(write_raw(bad, raw_products), out, settings=settings)
    assert "check 'values_not_negative'" in str(caught.value)
    assert "fails for 5 of 960" in str(caught.value)
    assert not (out / "transactions.parquet").exists()


def test_a_part_without_rows_stops_the_step(
    write_raw, raw_transactions, raw_products, settings, out
):
    task = write_raw(raw_transactions[raw_transactions.week < 15], raw_products)
    with pytest.raises(InvalidInputError, match="replay has none"):
        prepare(task, out, settings=settings)


def test_an_empty_table_stops_the_step(write_raw, raw_transactions, raw_products, settings, out):
    with pytest.raises(InvalidInputError, match="parts_have_rows"):
        prepare(write_raw(raw_transactions.iloc[:0], raw_products), out, settings=settings)


def test_a_sample_of_households_is_seeded_and_free_of_the_key(
    write_raw, raw_transactions, raw_products, settings, out
):
    task = write_raw(raw_transactions, raw_products)
    other_key = PipelineSettings(pseudonym_key="another key of sixteen")
    other_seed = parse_task(task_text(task), ["model.seed=8"])
    baskets = []
    for index, (which, key) in enumerate(
        [(task, settings), (task, other_key), (other_seed, settings)]
    ):
        report = prepare(which, out / str(index), households=6, settings=key)
        assert report.households == 6
        rows = pd.read_parquet(out / str(index) / "transactions.parquet")
        baskets.append(set(rows.basket_id))
    assert baskets[0] == baskets[1]
    assert baskets[0] != baskets[2]


def test_more_households_than_there_are_is_all_of_them(
    write_raw, raw_transactions, raw_products, settings, out
):
    task = write_raw(raw_transactions, raw_products)
    assert prepare(task, out, households=500, settings=settings).households == 20
    with pytest.raises(InvalidInputError, match="Ask for 1 or more"):
        prepare(task, out, households=0, settings=settings)


def test_the_same_input_gives_the_same_bytes(
    write_raw, raw_transactions, raw_products, settings, out
):
    task = write_raw(raw_transactions, raw_products)
    found = []
    for name in ("a", "b"):
        prepare(task, out / name, settings=settings)
        found.append(
            {
                path.name: hashlib.sha256(path.read_bytes()).hexdigest()
                for path in (out / name).iterdir()
            }
        )
    assert found[0] == found[1]


def test_the_key_file_lies_beside_the_output_and_is_used_again(
    write_raw, raw_transactions, raw_products, out
):
    task = write_raw(raw_transactions, raw_products)
    without = PipelineSettings()
    prepare(task, out, settings=without)
    first = pd.read_parquet(out / "transactions.parquet")
    assert (out.parent / "pseudonym.key").is_file()
    prepare(task, out, settings=without)
    assert pd.read_parquet(out / "transactions.parquet").equals(first)


def test_the_key_comes_from_the_environment(
    write_raw, raw_transactions, raw_products, out, monkeypatch
):
    monkeypatch.setenv("DAVY_PIPELINE_PSEUDONYM_KEY", KEY.decode())
    prepare(write_raw(raw_transactions, raw_products), out)
    rows = pd.read_parquet(out / "transactions.parquet")
    assert pseudonym("7", KEY) in set(rows.household_id)
    assert KEY.decode() not in json.dumps((out / "quality.json").read_text())


def test_a_damaged_table_is_named(
    write_raw, raw_transactions, raw_products, settings, out, tmp_path
):
    task = write_raw(raw_transactions, raw_products)
    path = tmp_path / "source" / "transactions.parquet"
    content = path.read_bytes()
    middle = len(content) // 3
    path.write_bytes(content[:middle] + b"\xff" * 400 + content[middle + 400 :])
    with pytest.raises(InvalidInputError, match=r"transactions\.parquet: .* Write the file again"):
        prepare(task, out, settings=settings)
    path.unlink()
    with pytest.raises(NotFoundError, match=r"transactions\.parquet"):
        prepare(task, out, settings=settings)
    assert not out.exists()
