"""The data step: tables in, clean pseudonymised rows and a quality report out.

Belongs here: the order of the step's work and the files that it writes.
Not here: the rules (`davy.data.quality`), the sources (`davy.data.sources`), features.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa

from davy.core.errors import InvalidInputError
from davy.core.files import MachineWritten, to_json, write_atomic
from davy.data.engine import open_engine, write_parquet
from davy.data.pseudonym import find_key, pseudonym
from davy.data.quality import (
    QualityCheck,
    check_rows,
    check_table,
    keep_good,
    stop_on_failure,
)
from davy.data.retail import local_day
from davy.data.settings import PipelineSettings
from davy.data.sources import Source, find_source, read_products, read_transactions
from davy.data.task import Task


class DataReport(MachineWritten):
    """``quality.json``: what was read, what was wrong with it and what is left.

    ``data_fingerprint`` is the sha256 over the source's files and what selects rows from them;
    pseudonyms are not part of it. ``start`` and ``end`` are the first and last time, UTC.
    """

    source: str
    data_fingerprint: str
    rows_read: int
    rows: int
    households: int
    baskets: int
    products: int
    start: datetime
    end: datetime
    pseudonymised: list[str]
    checks: list[QualityCheck]


def prepare(
    task: Task,
    out: Path,
    *,
    households: int | None = None,
    settings: PipelineSettings | None = None,
) -> DataReport:
    """Read, check, clean and pseudonymise the task's tables.

    Writes ``transactions.parquet`` (household_id, basket_id, product_id, department, quantity,
    sales_value, unit_price, discount, time in UTC, day in the task's time zone, week; ordered by
    time), ``products.parquet`` (product_id, department) and, last, ``quality.json``.

    Parameters
    ----------
    task : Task
        Its ``data``, ``split`` and ``model.seed``.
    out : Path
        Folder for the files; the pseudonym's key file lies beside it, in its parent.
    households : int, optional
        Keep a seeded sample of so many households.
    settings : PipelineSettings, optional
        Read from the environment when absent.

    Raises
    ------
    NotFoundError, MissingDependencyError
        The source is not there.
    InvalidInputError
        A file is damaged, lacks a column, or fails a check.
    """
    settings = settings or PipelineSettings.load()
    secret = settings.pseudonym_key.get_secret_value() if settings.pseudonym_key else None
    source = find_source(task)
    key = find_key(secret, out.parent)
    with open_engine(str(source.transactions)) as connection:
        products = connection.create_table("products", read_products(connection, source, task))
        raw = read_transactions(connection, source, task)
        if households is not None:
            raw = _sampled(raw, households, task.model.seed)
        lines = connection.create_table("lines", _joined(raw, products, task.data.timezone))
        checks = check_rows(lines)
        stop_on_failure(checks, where=str(source.transactions))
        good = connection.create_table("good", keep_good(lines))
        checks += check_table(good, products, task.split.parts())
        stop_on_failure(checks, where=str(source.transactions))
        if any(check.name == "lines_once" and check.failing for check in checks):
            good = good.distinct()
        clean = connection.create_table("clean", _finished(good, key))
        write_parquet(
            clean.order_by("time", "basket_id", "product_id"), out / "transactions.parquet"
        )
        write_parquet(
            products.filter(products.department.notnull()).order_by("product_id"),
            out / "products.parquet",
        )
        report = _report(clean, checks, source, task, households)
    write_atomic(out / "quality.json", to_json(report))
    return report


def _sampled(raw: Any, households: int, seed: int) -> Any:
    """Keep the households whose seeded hash is lowest: a sample that no key or order changes."""
    if households < 1:
        raise InvalidInputError(
            f"cannot keep {households} households", where="households", fix="Ask for 1 or more"
        )
    ids = raw.select("household_id").distinct().to_pyarrow()["household_id"].to_pylist()
    ranked = sorted(
        (identity for identity in ids if identity is not None),
        key=lambda identity: hashlib.sha256(f"{seed}:{identity}".encode()).digest(),
    )
    kept = ibis.memtable(pa.table({"household_id": pa.array(ranked[:households], pa.string())}))
    return raw.semi_join(kept, "household_id")


def _joined(raw: Any, products: Any, zone: str) -> Any:
    """Add each line's department, and its day by the shop's clock."""
    departments = products.group_by("product_id").aggregate(department=products.department.min())
    lines = raw.left_join(departments, "product_id").drop("product_id_right")
    return lines.mutate(day=local_day(lines.time, zone))


def _finished(good: Any, key: bytes) -> Any:
    """Replace household ids by pseudonyms and compute the price and discount of a line."""
    ids = good.select("household_id").distinct().to_pyarrow()["household_id"].to_pylist()
    names = ibis.memtable(
        pa.table({"household_id": ids, "pseudonym": [pseudonym(identity, key) for identity in ids]})
    )
    named = good.inner_join(names, "household_id")
    return named.select(
        household_id=named.pseudonym,
        basket_id=named.basket_id,
        product_id=named.product_id,
        department=named.department,
        quantity=named.quantity,
        sales_value=named.sales_value,
        unit_price=named.sales_value / named.quantity,
        discount=named.retail_disc + named.coupon_disc + named.coupon_match_disc,
        time=named.time,
        day=named.day,
        week=named.week,
    )


def _report(
    clean: Any, checks: list[QualityCheck], source: Source, task: Task, households: int | None
) -> DataReport:
    numbers = (
        clean.aggregate(
            rows=clean.count(),
            households=clean.household_id.nunique(),
            baskets=clean.basket_id.nunique(),
            products=clean.product_id.nunique(),
            start=clean.time.min(),
            end=clean.time.max(),
        )
        .to_pyarrow()
        .to_pylist()[0]
    )
    span = {name: numbers.pop(name).replace(tzinfo=UTC) for name in ("start", "end")}
    sample = "all" if households is None else f"{households} of seed {task.model.seed}"
    return DataReport(
        source=task.data.source,
        data_fingerprint=source.fingerprint(sample, task.data.timezone),
        rows_read=checks[0].rows,
        pseudonymised=["household_id"],
        checks=checks,
        **numbers,
        **span,
    )
