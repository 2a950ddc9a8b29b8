"""Tables that Davy builds from a shop's files, by the name that a task says in ``data.table``.

Belongs here: which there are, writing one. Not here: what is in each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from davy.core.errors import InvalidInputError
from davy.core.files import nearest
from davy.data.engine import open_engine, write_parquet
from davy.data.retail import Shop, open_shop
from davy.data.table_task import TableTask, table_path
from davy.features.churn import build_churn
from davy.features.coupons import build_coupon_redemption

BUILT: Mapping[str, Callable[[Any, Shop], Any]] = {
    "churn": build_churn,
    "coupon_redemption": build_coupon_redemption,
}


def table_file(task: TableTask, folder: Path) -> Path:
    """Return the file of a task's table, built into `folder` where the task asks for that.

    Raises
    ------
    NotFoundError, MissingDependencyError
        The source is not there.
    InvalidInputError
        No table of that name is built, or the source's files are broken.
    """
    name = task.data.table
    if name is None:
        return table_path(task)
    if name not in BUILT:
        raise InvalidInputError(
            f"no table '{name}' is built{nearest(name, list(BUILT))} (known: {', '.join(BUILT)})",
            where="data.table",
            fix="Name one of these, or a file in data.source",
        )
    path = folder / f"{name}.parquet"
    with open_engine(task.data.source) as connection:
        shop = open_shop(task.data.source, task.data.timezone)
        write_parquet(BUILT[name](connection, shop), path)
    return path
