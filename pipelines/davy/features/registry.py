"""The features and segments that a task can name, one definition each.

Belongs here: definitions, their units, checking a task's features against them.
Not here: how a signal is computed from history (`davy.features.signals`).

A new feature is a `Definition` in the mapping that `davy.features.build.build` is given; when
history does not hold what it needs, also a column there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import ibis

from davy.core.errors import InvalidInputError
from davy.core.files import nearest
from davy.data.task import Feature, Task

Kind = Literal["number", "category"]
Value = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Definition:
    """One feature.

    ``value`` takes the table of signals (one row per request and candidate) and returns a column
    in ``unit``; null is missing. ``units`` holds the other units that a task may ask for, each
    with its conversion.
    """

    name: str
    says: str
    value: Value
    kinds: frozenset[Kind] = frozenset({"number"})
    unit: str | None = None
    units: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Segment:
    """One way to divide requests; ``value`` returns a text column that is never null."""

    name: str
    says: str
    value: Value


# A week counts when it is over.
DAYS: Mapping[str, Value] = MappingProxyType(
    {"week": lambda days: (days.cast("float64") / 7).floor()}
)
DOLLARS: Mapping[str, Value] = MappingProxyType({"cent": lambda dollars: dollars * 100})
SHARES: Mapping[str, Value] = MappingProxyType({"percent": lambda share: share * 100})

COUNT_OR_CODE: frozenset[Kind] = frozenset({"number", "category"})
CODE: frozenset[Kind] = frozenset({"category"})

HEAVY_BASKETS = 24
REGULAR_BASKETS = 10
RECENT_DAYS = 7
LAPSING_DAYS = 21


def _by_name(definitions: Iterable[Definition]) -> Mapping[str, Definition]:
    return MappingProxyType({definition.name: definition for definition in definitions})


DEFINITIONS: Mapping[str, Definition] = _by_name(
    [
        Definition(
            "days_since_basket",
            "days since the household's last visit",
            lambda t: t.days_since_basket,
            kinds=COUNT_OR_CODE,
            unit="day",
            units=DAYS,
        ),
        Definition(
            "baskets_90d",
            "the household's baskets in the last 90 days",
            lambda t: t.baskets_90d,
            unit="baskets",
        ),
        Definition(
            "spend_28d",
            "what the household spent in the last 28 days",
            lambda t: t.spend_28d,
            unit="dollar",
            units=DOLLARS,
        ),
        Definition(
            "times_bought",
            "the household's baskets so far that held the product",
            lambda t: t.times_bought.fill_null(0),
            unit="baskets",
        ),
        Definition(
            "decayed_count",
            "the same, each counting half as much for every 70 days that it is old",
            lambda t: t.decayed_count.fill_null(0.0),
        ),
        Definition(
            "days_since_bought",
            "days since the household last bought the product; missing if never",
            lambda t: t.days_since_bought,
            unit="day",
            units=DAYS,
        ),
        Definition(
            "mean_gap_days",
            "mean days between the household's purchases of it; missing before the second",
            lambda t: t.mean_gap_days,
            unit="day",
            units=DAYS,
        ),
        Definition(
            "department_share",
            "share of the household's products so far that came from the product's department",
            lambda t: t.department_share.fill_null(0.0),
            unit="share",
            units=SHARES,
        ),
        Definition(
            "popularity_28d",
            "share of all visits in the last 28 days that took the product",
            lambda t: t.popularity_28d,
            unit="share",
            units=SHARES,
        ),
        Definition(
            "popularity_trend",
            "natural log of that share over the share of the 28 days before, smoothed",
            lambda t: t.popularity_trend,
        ),
        Definition(
            "unit_price",
            "mean price paid for one, in the last 28 days or else so far",
            lambda t: t.unit_price,
            unit="dollar",
            units=DOLLARS,
        ),
        Definition(
            "discount_share",
            "discount as a share of the price before it, over the same days",
            lambda t: t.discount_share,
            unit="share",
            units=SHARES,
        ),
        Definition(
            "department",
            "the product's department: a code by size in the train weeks, the last code for others",
            lambda t: t.department_code,
            kinds=CODE,
        ),
    ]
)


def _shopper(t: Any) -> Any:
    return ibis.cases(
        (t.baskets_90d >= HEAVY_BASKETS, "heavy"),
        (t.baskets_90d >= REGULAR_BASKETS, "regular"),
        else_="light",
    )


def _lapse(t: Any) -> Any:
    return ibis.cases(
        (t.days_since_basket <= RECENT_DAYS, "recent"),
        (t.days_since_basket <= LAPSING_DAYS, "lapsing"),
        else_="lapsed",
    )


SEGMENTS: Mapping[str, Segment] = MappingProxyType(
    {
        "shopper": Segment(
            "shopper",
            f"heavy: {HEAVY_BASKETS} baskets or more in 90 days;"
            f" regular: {REGULAR_BASKETS} to {HEAVY_BASKETS - 1}; light: fewer",
            _shopper,
        ),
        "lapse": Segment(
            "lapse",
            f"days since the last visit, recent: at most {RECENT_DAYS};"
            f" lapsing: {RECENT_DAYS + 1} to {LAPSING_DAYS}; lapsed: more, or never",
            _lapse,
        ),
    }
)


def check_names(
    task: Task,
    definitions: Mapping[str, Definition] = DEFINITIONS,
    segments: Mapping[str, Segment] = SEGMENTS,
) -> None:
    """Check that every feature, its type and unit, and every segment of a task is known.

    Raises
    ------
    InvalidInputError
        Names all that is not, each with its nearest match.
    """
    problems = [p for feature in task.features for p in _feature_problems(feature, definitions)]
    problems += [
        f"unknown segment '{name}'{nearest(name, segments)}"
        for name in task.segments
        if name not in segments
    ]
    if problems:
        raise InvalidInputError(
            "; ".join(problems), where=f"task '{task.name}'", fix="Correct it and try again"
        )


def _feature_problems(feature: Feature, definitions: Mapping[str, Definition]) -> list[str]:
    definition = definitions.get(feature.name)
    if definition is None:
        return [f"unknown feature '{feature.name}'{nearest(feature.name, definitions)}"]
    problems = []
    if feature.type not in definition.kinds:
        kinds = " or ".join(sorted(definition.kinds))
        problems.append(f"feature '{feature.name}' cannot be a {feature.type}, it is a {kinds}")
    known = [definition.unit, *definition.units] if definition.unit else []
    if feature.unit is not None and feature.unit not in known:
        units = ", ".join(str(unit) for unit in known) or "it has none"
        problems.append(
            f"feature '{feature.name}' is not in unit '{feature.unit}'"
            f"{nearest(feature.unit, known)} (units: {units})"
        )
    if feature.name == "department" and feature.range and feature.range.low != 0:
        problems.append("feature 'department' has codes from 0: its range must begin there")
    return problems


def feature_column(feature: Feature, definition: Definition, signals: Any) -> Any:
    """Return the feature's column in the task's unit and type.

    A number is float32, NaN where it is missing. A category is int64, moved into its range:
    the highest code means "that many or more", and is also that of a value that does not exist.
    """
    value = definition.value(signals)
    if feature.unit is not None and feature.unit != definition.unit:
        value = definition.units[feature.unit](value)
    if feature.type == "number":
        return value.fill_null(float("nan")).cast("float32")
    assert feature.range is not None  # noqa: S101 (the task's schema: a category has one)
    low, high = int(feature.range.low), int(feature.range.high)
    return value.cast("int64").fill_null(high).clip(low, high)
