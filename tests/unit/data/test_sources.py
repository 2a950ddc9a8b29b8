"""Sources: what is missing, damaged or of another shape is named with its file."""

import builtins
import importlib.resources

import pandas as pd
import pytest

from davy.core.errors import InvalidInputError, MissingDependencyError, NotFoundError
from davy.data.engine import open_engine
from davy.data.sources import find_source, read_products, read_transactions
from davy.data.task import parse_task, task_text


def read(task):
    source = find_source(task)
    with open_engine("test tables", threads=1) as connection:
        products = read_products(connection, source, task).to_pandas()
        return read_transactions(connection, source, task).to_pandas(), products


def test_the_package_holds_both_tables(write_raw, raw_transactions, raw_products):
    task = write_raw(raw_transactions, raw_products)
    source = find_source(parse_task(task_text(task), ["data.source='completejourney:'"]))
    assert source.transactions.name == "transactions.parquet"
    assert source.products.is_file()


def test_columns_get_our_names_and_types(write_raw, raw_transactions, raw_products):
    narrow = raw_transactions.astype({"quantity": "int32", "sales_value": "float32"})
    task = write_raw(narrow.rename(columns={"household_id": "customer"}), raw_products)
    transactions, products = read(parse_task(task_text(task), ["entity=customer"]))
    assert list(transactions.household_id[:1]) == ["1"]
    assert transactions.quantity.dtype == "int64"
    assert transactions.sales_value.dtype == "float64"
    assert list(products.columns) == ["product_id", "department"]


def test_ids_may_be_text(write_raw, raw_transactions, raw_products):
    text = raw_transactions.assign(household_id="h" + raw_transactions.household_id.astype(str))
    transactions, _ = read(write_raw(text, raw_products))
    assert set(transactions.household_id) == {f"h{n}" for n in range(1, 21)}


@pytest.mark.parametrize("name", ["transactions", "products"])
def test_a_missing_file_is_named(write_raw, raw_transactions, raw_products, name, tmp_path):
    task = write_raw(raw_transactions, raw_products)
    (tmp_path / "source" / f"{name}.parquet").unlink()
    with pytest.raises(NotFoundError) as caught:
        find_source(task)
    assert f"source/{name}.parquet: no such file" in str(caught.value)
    assert "data.source must name a folder" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"household_id,basket_id\n1,2\n", b"PAR1" + b"\0" * 99])
def test_a_file_that_is_not_parquet_is_named(
    write_raw, raw_transactions, raw_products, content, tmp_path
):
    task = write_raw(raw_transactions, raw_products)
    (tmp_path / "source" / "products.parquet").write_bytes(content)
    with pytest.raises(InvalidInputError) as caught:
        read(task)
    assert "products.parquet: not a Parquet file that can be read" in str(caught.value)


def test_missing_columns_and_wrong_types_are_all_named(write_raw, raw_transactions, raw_products):
    wrong = raw_transactions.drop(columns="week").assign(
        quantity="many", transaction_timestamp="2017-01-02"
    )
    with pytest.raises(InvalidInputError) as caught:
        read(write_raw(wrong, raw_products))
    message = str(caught.value)
    assert "no column 'week'" in message
    assert "column 'quantity' is string, not int64" in message
    assert "column 'transaction_timestamp' is string" in message
    assert "transactions.parquet" in message


def test_fractions_are_not_cut_to_whole_numbers(write_raw, raw_transactions, raw_products):
    halves = raw_transactions.assign(quantity=raw_transactions.quantity / 2)
    with pytest.raises(InvalidInputError, match="'quantity' is float64, not int64"):
        read(write_raw(halves, raw_products))


def test_the_fingerprint_follows_the_bytes_and_the_selection(
    write_raw, raw_transactions, raw_products
):
    source = find_source(write_raw(raw_transactions, raw_products))
    first = source.fingerprint("all")
    assert first == source.fingerprint("all")
    assert first != source.fingerprint("60")
    write_raw(raw_transactions.iloc[1:], raw_products)
    assert first != source.fingerprint("all")


def test_without_the_package_the_extra_is_named(
    write_raw, raw_transactions, raw_products, monkeypatch
):
    def not_installed(name):
        raise builtins.ModuleNotFoundError(name)

    task = write_raw(raw_transactions, raw_products)
    monkeypatch.setattr(importlib.resources, "files", not_installed)
    with pytest.raises(MissingDependencyError, match=r"davylamp\[pipeline\]"):
        find_source(parse_task(task_text(task), ["data.source='completejourney:'"]))


def test_a_mistake_in_a_query_is_not_blamed_on_the_input():
    with pytest.raises(Exception) as caught, open_engine("test tables", threads=1) as connection:
        connection.raw_sql("SELECT nothing FROM nowhere")
    assert not isinstance(caught.value, InvalidInputError)


def test_a_query_that_fails_on_its_data_is_invalid_input():
    with (
        pytest.raises(InvalidInputError, match="Could not convert"),
        open_engine("test tables", threads=1) as connection,
    ):
        connection.raw_sql("SELECT CAST(x AS INTEGER) FROM (VALUES ('word')) AS t(x)").fetchall()


def test_tables_that_do_not_fit_say_what_to_take_less_of():
    with (
        pytest.raises(InvalidInputError, match="fewer households"),
        open_engine("test tables", threads=1, memory_limit="20MB") as connection,
    ):
        connection.raw_sql("SELECT list(i ORDER BY i) FROM range(20000000) AS t(i)").fetchall()


def test_frames_are_read_lazily(write_raw, raw_transactions, raw_products):
    task = write_raw(raw_transactions, raw_products)
    with open_engine("test tables", threads=1) as connection:
        table = read_transactions(connection, find_source(task), task)
        assert not isinstance(table, pd.DataFrame)
        assert table.count().to_pyarrow().as_py() == len(raw_transactions)
