"""Quality checks: which rows break which rule, and what follows.

Belongs here: the rules on transactions, counting, dropping, failing.
Not here: columns and types (`davy.data.sources`), reading and writing files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import ibis

from davy.core.errors import InvalidInputError
from davy.core.files import MachineWritten

Action = Literal["fail", "drop", "count"]

# The largest number of one product that is a count; above it the quantity is a measure (fuel).
LARGEST_COUNT = 99
PLAUSIBLE_PRICE = 200.0


class QualityCheck(MachineWritten):
    """Outcome of one check.

    ``fail``: more than the share ``allowed`` of failing rows stops the step; those within it are
    dropped. ``drop``: failing rows are dropped. ``count``: they are kept and reported.
    """

    name: str
    what: str
    action: Action
    allowed: float
    rows: int
    failing: int

    @property
    def share(self) -> float:
        """Failing rows as a share of those looked at; 0 when there were none."""
        return self.failing / self.rows if self.rows else 0.0


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule on one row: ``failing`` gives a boolean column that is true where it is broken."""

    name: str
    what: str
    action: Action
    failing: Callable[[Any], Any]
    allowed: float = 0.0


def _any_null(names: Sequence[str]) -> Callable[[Any], Any]:
    return lambda rows: ibis.or_(*(rows[name].isnull() for name in names))


def _any_negative(names: Sequence[str]) -> Callable[[Any], Any]:
    return lambda rows: ibis.or_(*((rows[name] < 0).fill_null(False) for name in names))


def _any_infinite(names: Sequence[str]) -> Callable[[Any], Any]:
    return lambda rows: ibis.or_(
        *((rows[name].isnan() | rows[name].isinf()).fill_null(False) for name in names)
    )


MONEY = ("sales_value", "retail_disc", "coupon_disc", "coupon_match_disc")

ROW_RULES: tuple[Rule, ...] = (
    Rule(
        "ids_present",
        "household, basket, product, time and week are there",
        "fail",
        _any_null(("household_id", "basket_id", "product_id", "time", "week")),
        allowed=0.001,
    ),
    Rule(
        "values_present",
        "quantity, sales value and discounts are there",
        "fail",
        _any_null(("quantity", *MONEY)),
        allowed=0.01,
    ),
    Rule(
        "values_finite",
        "sales value and discounts are numbers",
        "fail",
        _any_infinite(MONEY),
        0.001,
    ),
    Rule(
        "values_not_negative",
        "quantity, sales value and discounts are at least 0",
        "fail",
        _any_negative(("quantity", *MONEY)),
        allowed=0.001,
    ),
    Rule(
        "quantity_not_zero",
        "something was bought: quantity is not 0",
        "drop",
        lambda rows: (rows.quantity == 0).fill_null(False),
    ),
    Rule(
        "quantity_is_count",
        f"quantity is at most {LARGEST_COUNT}: fuel is measured in millilitres",
        "drop",
        lambda rows: (rows.quantity > LARGEST_COUNT).fill_null(False),
    ),
    Rule(
        "department_known",
        "the product is among the products and has a department",
        "drop",
        lambda rows: rows.department.isnull() | (rows.department.strip() == ""),
    ),
    Rule(
        "value_not_zero",
        "what was bought had a price: sales value is not 0",
        "count",
        lambda rows: (rows.sales_value == 0).fill_null(False),
    ),
    Rule(
        "price_plausible",
        f"one item costs at most {PLAUSIBLE_PRICE:g} dollars",
        "count",
        lambda rows: (
            (rows.quantity.between(1, LARGEST_COUNT))
            & (rows.sales_value > PLAUSIBLE_PRICE * rows.quantity)
        ).fill_null(False),
    ),
)


def check_rows(lines: Any, rules: Sequence[Rule] = ROW_RULES) -> list[QualityCheck]:
    """Count the rows that break each rule, in one pass.

    Parameters
    ----------
    lines : ibis table
        Transactions with their product's department.
    rules : sequence of Rule
        Rules on one row.
    """
    counts = (
        lines.aggregate(
            rows=lines.count(), **{rule.name: rule.failing(lines).sum() for rule in rules}
        )
        .to_pyarrow()
        .to_pylist()[0]
    )
    return [
        QualityCheck(
            name=rule.name,
            what=rule.what,
            action=rule.action,
            allowed=rule.allowed,
            rows=counts["rows"],
            failing=counts[rule.name] or 0,
        )
        for rule in rules
    ]


def keep_good(lines: Any, rules: Sequence[Rule] = ROW_RULES) -> Any:
    """Return the lines that break no rule whose action is ``fail`` or ``drop``."""
    return lines.filter([~rule.failing(lines) for rule in rules if rule.action in ("fail", "drop")])


def check_table(
    lines: Any, products: Any, parts: Mapping[str, tuple[int, int]]
) -> list[QualityCheck]:
    """Count what only shows across rows: repeated lines, split baskets, empty parts, days.

    Parameters
    ----------
    lines : ibis table
        Clean transactions with ``day``, repeated lines still in.
    products : ibis table
        Products as they were read.
    parts : mapping of str to (int, int)
        First and last week of each part of the split.
    """
    baskets = lines.group_by("basket_id").aggregate(
        mixed=(lines.household_id.min() != lines.household_id.max())
        | (lines.day.min() != lines.day.max())
    )
    days = lines.group_by("day").aggregate(mixed=lines.week.min() != lines.week.max())
    keys = products.group_by("product_id").aggregate(copies=products.count())
    numbers = _one_row(
        rows=lines.count(),
        distinct_rows=lines.distinct().count(),
        baskets=baskets.count(),
        mixed_baskets=baskets.mixed.sum(),
        days=days.count(),
        mixed_days=days.mixed.sum(),
        products=keys.count(),
        repeated_products=(keys.copies > 1).sum(),
    )
    weeks = set(lines.week.as_table().distinct().to_pyarrow()["week"].to_pylist())
    empty = [p for p, (first, last) in parts.items() if weeks.isdisjoint(range(first, last + 1))]

    def check(name: str, what: str, action: Action, rows: int, failing: int) -> QualityCheck:
        return QualityCheck(
            name=name, what=what, action=action, allowed=0.0, rows=rows, failing=failing
        )

    return [
        check(
            "lines_once",
            "no line is there twice",
            "drop",
            numbers["rows"],
            numbers["rows"] - numbers["distinct_rows"],
        ),
        check(
            "products_once",
            "no product is there twice",
            "fail",
            numbers["products"],
            numbers["repeated_products"],
        ),
        check(
            "basket_is_one_visit",
            "a basket has one household and one day",
            "fail",
            numbers["baskets"],
            numbers["mixed_baskets"],
        ),
        check(
            "day_in_one_week",
            "a day lies in one week: the time zone fits the weeks",
            "count",
            numbers["days"],
            numbers["mixed_days"],
        ),
        check(
            "parts_have_rows",
            "each part of the split has rows"
            + (f" ({', '.join(empty)} has none)" if empty else ""),
            "fail",
            len(parts),
            len(empty),
        ),
    ]


def stop_on_failure(checks: Sequence[QualityCheck], *, where: str) -> None:
    """Raise when a check with action ``fail`` has too many failing rows.

    Raises
    ------
    InvalidInputError
        Names each such check, its rule and its numbers.
    """
    failed = [
        f"check '{c.name}' ({c.what}) fails for {c.failing:,} of {c.rows:,},"
        f" {c.allowed:.1%} at most may"
        for c in checks
        if c.action == "fail" and c.share > c.allowed
    ]
    if failed:
        raise InvalidInputError(
            "; ".join(failed), where=where, fix="Correct the table or the task's split and columns"
        )


def _one_row(**values: Any) -> dict[str, int]:
    """Compute scalars of different tables; an empty table's sum counts as 0."""
    return {
        name: int(result or 0)
        for name, result in ((name, value.to_pyarrow().as_py()) for name, value in values.items())
    }
