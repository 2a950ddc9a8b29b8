"""The feature step: one file a part, one row per request and candidate.

Belongs here: the order of the step's work, the files that it writes, its report.
Not here: requests, candidates, signals and definitions, which have modules of their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis
from pydantic import Field

from davy.core.errors import InvalidInputError, NotFoundError
from davy.core.files import MachineWritten, read_model, to_json, write_atomic
from davy.data.engine import open_engine, write_parquet
from davy.data.prepare import DataReport
from davy.data.task import PARTS, Task, task_text
from davy.features.candidates import (
    HALF_LIFE_DAYS,
    bought,
    choose_candidates,
    own_products,
    popular_products,
)
from davy.features.history import History, draw_requests, read_history
from davy.features.registry import (
    DEFINITIONS,
    SEGMENTS,
    Definition,
    Segment,
    check_names,
    feature_column,
)
from davy.features.signals import department_signals, household_signals, product_signals

# Enough requests for an interval of about ±0.01 on NDCG, few enough to build in seconds.
VALID_REQUESTS = 2400
TEST_REQUESTS = 2400
REPLAY_REQUESTS = 3000

# Popularity is below 1: it orders products of equal history and never overrules one purchase.
TIE_BREAK = 0.001


class PartReport(MachineWritten):
    """One part. ``recall`` is the share of all bought products that are among the candidates."""

    requests: int
    rows: int
    positives: int
    requests_without_positive: int
    recall: float
    first_week: int
    last_week: int


class FeatureColumn(MachineWritten):
    """One feature as it was built: shares of its rows over all parts."""

    name: str
    says: str
    type: str
    unit: str | None
    missing: float
    outside: float


class SegmentColumn(MachineWritten):
    """One segment: how it is cut, and the requests of each value by part."""

    name: str
    says: str
    requests: dict[str, dict[str, int]]


class FeatureReport(MachineWritten):
    """``features.json``.

    ``fingerprint`` is the sha256 over the data's fingerprint and the task: what decides the rows.
    ``departments`` holds the department of each code; the code after the last is every other one.
    """

    data_fingerprint: str
    fingerprint: str
    parts: dict[str, PartReport]
    features: list[FeatureColumn]
    segments: list[SegmentColumn] = Field(default_factory=list)
    departments: list[str]
    half_life_days: float = HALF_LIFE_DAYS


@dataclass(frozen=True, slots=True)
class Built:
    """The step's tables in the engine: all rows, and the requests that they belong to."""

    rows: Any
    requests: Any
    departments: list[str]


def build(
    task: Task,
    data: Path,
    out: Path,
    *,
    definitions: Mapping[str, Definition] = DEFINITIONS,
    segments: Mapping[str, Segment] = SEGMENTS,
) -> FeatureReport:
    """Build the feature files of a task.

    Writes ``train.parquet``, ``valid.parquet``, ``test.parquet`` and ``replay.parquet`` and, last,
    ``features.json``. Rows are in the order of time, those of a request together and in the order
    of product_id. Columns: request_id, household_id, product_id, time (UTC, of the day's first
    basket), week, label (1 when the household took the product that day), basket_size (distinct
    products that it took, candidates or not), the task's features in its order, ``segment_<name>``,
    baseline_popularity, baseline_personal. Features know only days before the request's.

    Parameters
    ----------
    task : Task
        The task.
    data : Path
        Folder that `davy.data.prepare.prepare` wrote.
    out : Path
        Folder for the files.
    definitions, segments : mapping, optional
        What the task may name.

    Raises
    ------
    NotFoundError
        `data` has no prepared files.
    InvalidInputError
        The task names an unknown feature, unit or segment; a file is damaged; a part is empty.
    """
    check_names(task, definitions, segments)
    report = read_model(data / "quality.json", DataReport)
    path = data / "transactions.parquet"
    if not path.is_file():
        raise NotFoundError("no such file", where=str(path), fix="Run the data step first")
    with open_engine(str(path)) as connection:
        history = read_history(connection, connection.read_parquet(str(path)))
        built = _rows(connection, history, task, definitions, segments)
        result = _report(built, task, report.data_fingerprint, definitions, segments)
        for part in PARTS:
            rows = built.rows.filter(built.rows.part == part)
            ordered = rows.order_by("request_no", "product_id").drop("part", "request_no")
            write_parquet(ordered, out / f"{part}.parquet")
    write_atomic(out / "features.json", to_json(result))
    return result


def _rows(
    connection: Any,
    history: History,
    task: Task,
    definitions: Mapping[str, Definition],
    segments: Mapping[str, Segment],
) -> Built:
    sizes = {
        "train": task.model.train_baskets,
        "valid": VALID_REQUESTS,
        "test": TEST_REQUESTS,
        "replay": REPLAY_REQUESTS,
    }
    requests = connection.create_table("requests", draw_requests(history, task, sizes))
    per_basket = task.candidates.per_basket
    own = connection.create_table("own", own_products(history, requests, per_basket))
    popular = connection.create_table("popular", popular_products(history, requests, per_basket))
    candidates = connection.create_table(
        "candidates", choose_candidates(requests, own, popular, per_basket)
    )
    keyed = candidates.inner_join(
        requests.select("request_no", "day_no", "household_no"), "request_no"
    )
    pairs = keyed.select("product_id", "day_no").distinct()
    products = connection.create_table("products_asked", product_signals(history, pairs))
    departments = _largest_departments(history, task)
    coded = history.products.mutate(department_code=_code(history.products.department, departments))
    taken = bought(history, requests).mutate(label=ibis.literal(1).cast("int8"))
    signals = (
        candidates.inner_join(requests, "request_no")
        .inner_join(history.households, "household_no")
        .inner_join(household_signals(history, requests), "request_no")
        .inner_join(products, ["product_id", "day_no"])
        .inner_join(coded, "product_id")
        .left_join(
            connection.create_table("shares", department_signals(history, requests)),
            ["request_no", "department"],
        )
        .drop("request_no_right", "department_right")
        .left_join(taken, ["request_no", "product_id"])
        .drop("request_no_right", "product_id_right")
    )
    rows = signals.select(
        request_no=signals.request_no,
        part=signals.part,
        request_id=signals.household_id + "-" + signals.day.strftime("%Y%m%d"),
        household_id=signals.household_id,
        product_id=signals.product_id,
        time=signals.time,
        week=signals.week,
        label=signals.label.fill_null(0).cast("int8"),
        basket_size=signals.basket_size,
        **{f.name: feature_column(f, definitions[f.name], signals) for f in task.features},
        **{f"segment_{name}": segments[name].value(signals) for name in task.segments},
        baseline_popularity=signals.popularity_28d.fill_null(0.0).cast("float32"),
        baseline_personal=(
            signals.decayed_count.fill_null(0.0) + TIE_BREAK * signals.popularity_28d.fill_null(0.0)
        ).cast("float32"),
    )
    return Built(connection.create_table("rows", rows), requests, departments)


def _largest_departments(history: History, task: Task) -> list[str]:
    """Return the departments that have a code of their own: the largest of the train weeks."""
    feature = next((f for f in task.features if f.name == "department"), None)
    most = feature.categories - 1 if feature else 0
    first, last = task.split.train
    days = history.visits.filter(history.visits.week.between(first, last)).select("day_no")
    sizes = (
        history.aisles.semi_join(days.distinct(), "day_no")
        .group_by("department")
        .aggregate(products=ibis._.products.sum())
    )
    ordered = sizes.order_by(sizes.products.desc(), sizes.department).limit(most)
    names: list[str] = ordered.to_pyarrow()["department"].to_pylist()
    return names


def _code(department: Any, departments: list[str]) -> Any:
    if not departments:
        return ibis.literal(0)
    branches = [(department == name, code) for code, name in enumerate(departments)]
    return ibis.cases(*branches, else_=len(departments))


def _report(
    built: Built,
    task: Task,
    data_fingerprint: str,
    definitions: Mapping[str, Definition],
    segments: Mapping[str, Segment],
) -> FeatureReport:
    return FeatureReport(
        data_fingerprint=data_fingerprint,
        fingerprint=hashlib.sha256(f"{data_fingerprint}\n{task_text(task)}".encode()).hexdigest(),
        parts=_part_reports(built),
        features=_feature_columns(built, task, definitions),
        segments=[
            SegmentColumn(name=name, says=segments[name].says, requests=_counts(built, name))
            for name in task.segments
        ],
        departments=built.departments,
    )


def _part_reports(built: Built) -> dict[str, PartReport]:
    rows = built.rows
    per_request = rows.group_by("part", "request_no").aggregate(
        rows=rows.count(),
        positives=rows.label.sum(),
        basket_size=rows.basket_size.max(),
        week=rows.week.max(),
    )
    counted = per_request.group_by("part").aggregate(
        requests=per_request.count(),
        rows=per_request.rows.sum(),
        positives=per_request.positives.sum(),
        requests_without_positive=(per_request.positives == 0).sum(),
        recall=per_request.positives.sum() / per_request.basket_size.sum(),
        first_week=per_request.week.min(),
        last_week=per_request.week.max(),
    )
    found = {row.pop("part"): PartReport(**row) for row in counted.to_pyarrow().to_pylist()}
    empty = [part for part in PARTS if part not in found]
    if empty:
        raise InvalidInputError(
            f"no request in {', '.join(empty)}: no household bought enough products on one day",
            where="features",
            fix="Take more households or a wider split",
        )
    return {part: found[part] for part in PARTS}


def _feature_columns(
    built: Built, task: Task, definitions: Mapping[str, Definition]
) -> list[FeatureColumn]:
    rows = built.rows
    numbers = [f for f in task.features if f.type == "number"]
    missing = {f"missing_{f.name}": rows[f.name].isnan().mean() for f in numbers}
    outside = {
        f"outside_{f.name}": (
            ~rows[f.name].isnan() & ~rows[f.name].between(f.range.low, f.range.high)
        ).mean()
        for f in numbers
        if f.range
    }
    shares = rows.aggregate(**missing, **outside).to_pyarrow().to_pylist()[0]
    return [
        FeatureColumn(
            name=f.name,
            says=definitions[f.name].says,
            type=f.type,
            unit=f.unit or definitions[f.name].unit,
            missing=shares.get(f"missing_{f.name}", 0.0),
            outside=shares.get(f"outside_{f.name}", 0.0),
        )
        for f in task.features
    ]


def _counts(built: Built, segment: str) -> dict[str, dict[str, int]]:
    column = f"segment_{segment}"
    counted = (
        built.rows.group_by("part", column)
        .aggregate(requests=built.rows.request_no.nunique())
        .to_pyarrow()
        .to_pylist()
    )
    return {
        part: {
            row[column]: row["requests"]
            for row in sorted(counted, key=lambda row: str(row[column]))
            if row["part"] == part
        }
        for part in PARTS
    }
