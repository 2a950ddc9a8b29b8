"""Quality checks: each rule finds exactly the rows that break it."""

from datetime import timedelta

import ibis
import pandas as pd
import pytest

from davy.core.errors import InvalidInputError
from davy.data.quality import (
    ROW_RULES,
    QualityCheck,
    check_rows,
    check_table,
    keep_good,
    stop_on_failure,
)

PARTS = {"train": (5, 10), "valid": (11, 12), "test": (13, 14), "replay": (15, 16)}


@pytest.fixture
def lines(raw_transactions):
    frame = raw_transactions.rename(columns={"transaction_timestamp": "time"})
    return frame.assign(
        household_id=frame.household_id.astype(str), department="GROCERY", day=frame.time.dt.date
    ).astype({"quantity": "Int64", "household_id": "object"})


def rows_failing(frame):
    return {check.name: check.failing for check in check_rows(ibis.memtable(frame))}


BREAKS = {
    "ids_present": ("household_id", None),
    "values_present": ("quantity", None),
    "values_finite": ("retail_disc", float("inf")),
    "values_not_negative": ("retail_disc", -0.5),
    "quantity_not_zero": ("quantity", 0),
    "quantity_is_count": ("quantity", 8000),
    "department_known": ("department", None),
    "value_not_zero": ("sales_value", 0.0),
    "price_plausible": ("sales_value", 4000.0),
}


def test_every_rule_has_a_case():
    assert set(BREAKS) == {rule.name for rule in ROW_RULES}


def test_good_rows_break_nothing(lines):
    checks = check_rows(ibis.memtable(lines))
    assert {check.failing for check in checks} == {0}
    assert {check.rows for check in checks} == {len(lines)}
    assert len(keep_good(ibis.memtable(lines)).to_pandas()) == len(lines)


@pytest.mark.parametrize("rule", ROW_RULES, ids=lambda rule: rule.name)
def test_a_broken_row_is_counted_and_dropped_or_kept(lines, rule):
    column, value = BREAKS[rule.name]
    lines.loc[[3, 40], column] = value
    found = rows_failing(lines)
    assert {name for name, failing in found.items() if failing} == {rule.name}
    assert found[rule.name] == 2
    kept = keep_good(ibis.memtable(lines)).count().to_pyarrow().as_py()
    assert kept == len(lines) - (0 if rule.action == "count" else 2)


def test_blank_departments_are_unknown(lines):
    lines.loc[5, "department"] = "  "
    assert rows_failing(lines)["department_known"] == 1


def test_no_rows_at_all(lines):
    table = ibis.memtable(lines)
    checks = check_rows(table.filter(table.week < 0))
    assert {(check.rows, check.failing, check.share) for check in checks} == {(0, 0, 0.0)}


def table_checks(lines, products):
    found = check_table(ibis.memtable(lines), ibis.memtable(products), PARTS)
    return {check.name: check for check in found}


def test_a_good_table(lines, raw_products):
    checks = table_checks(lines, raw_products)
    assert {check.failing for check in checks.values()} == {0}
    assert checks["basket_is_one_visit"].rows == 320


def test_repeated_lines(lines, raw_products):
    twice = pd.concat([lines, lines.iloc[[1, 2, 2]]])
    assert table_checks(twice, raw_products)["lines_once"].failing == 3


def test_repeated_products(lines, raw_products):
    twice = pd.concat([raw_products, raw_products.iloc[[4]]])
    assert table_checks(lines, twice)["products_once"].failing == 1


def test_a_basket_of_two_households_or_two_days(lines, raw_products):
    lines.loc[0, "household_id"] = "20"
    lines.loc[30, "day"] += timedelta(days=1)
    assert table_checks(lines, raw_products)["basket_is_one_visit"].failing == 2


def test_a_day_in_two_weeks(lines, raw_products):
    lines.loc[lines.basket_id == 102, "week"] = 2
    assert table_checks(lines, raw_products)["day_in_one_week"].failing == 1


def test_a_part_without_rows_is_named(lines, raw_products):
    check = table_checks(lines[lines.week < 15], raw_products)["parts_have_rows"]
    assert (check.rows, check.failing) == (4, 1)
    assert "replay has none" in check.what


def check(action, failing, allowed=0.01):
    return QualityCheck(
        name="some_rule",
        what="it is so",
        action=action,
        allowed=allowed,
        rows=1000,
        failing=failing,
    )


def test_only_fail_beyond_what_is_allowed_stops():
    stop_on_failure([check("fail", 10), check("drop", 900), check("count", 900)], where="t")
    with pytest.raises(InvalidInputError) as caught:
        stop_on_failure([check("fail", 11)], where="t.parquet")
    assert "t.parquet: check 'some_rule' (it is so) fails for 11 of 1,000, 1.0% at most may" in str(
        caught.value
    )
