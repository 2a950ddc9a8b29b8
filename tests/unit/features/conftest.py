"""Small prepared tables, as the data step writes them, for the tests of features."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from davy.core.files import to_json
from davy.data.prepare import DataReport
from davy.data.task import Task, load_task

ROOT = Path(__file__).parents[3]
TASK_FILE = ROOT / "pipelines" / "tasks" / "next_basket.yaml"
WEEKS = 14
MONDAY = datetime(2017, 1, 2)  # noqa: DTZ001 (prepared times are UTC without a zone)
DEPARTMENTS = ["GROCERY", "PRODUCE", "MEAT", "DELI", "PASTRY"]


@pytest.fixture(scope="session")
def small_task() -> Task:
    return load_task(
        TASK_FILE,
        [
            "split={train: [6, 8], valid: [9, 10], test: [11, 12], replay: [13, 14]}",
            "candidates.per_basket=30",
        ],
    )


@pytest.fixture(scope="session")
def small_transactions() -> pd.DataFrame:
    """Twelve households, one or two visits a week, 60 products of skewed popularity."""
    rng = np.random.default_rng(11)
    popularity = 1 / np.arange(1, 61)
    rows = []
    basket = 1000
    for household in range(12):
        taste = popularity * rng.gamma(0.6, size=60) + 1e-6
        taste /= taste.sum()
        for day in range(WEEKS * 7):
            if rng.random() > 0.22:
                continue
            basket += 1
            time = MONDAY + timedelta(days=day, hours=int(rng.integers(9, 20)))
            chosen = rng.choice(60, size=int(rng.integers(3, 10)), replace=False, p=taste)
            for product in chosen:
                quantity = int(rng.integers(1, 4))
                price = round(float(0.5 + product / 7 + rng.random()), 2)
                rows.append(
                    {
                        "household_id": f"{household:016x}",
                        "basket_id": basket,
                        "product_id": 100 + int(product),
                        "department": DEPARTMENTS[product % 5],
                        "quantity": quantity,
                        "sales_value": round(price * quantity, 2),
                        "unit_price": price,
                        "discount": round(float(rng.random()), 2) * int(rng.random() < 0.4),
                        "time": time,
                        "day": time.date(),
                        "week": day // 7 + 1,
                    }
                )
    return pd.DataFrame(rows)


@pytest.fixture(scope="session")
def write_prepared() -> Callable[[pd.DataFrame, Path], Path]:
    """Return a function that writes a folder as the data step does."""

    def write(transactions: pd.DataFrame, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        transactions.to_parquet(folder / "transactions.parquet")
        report = DataReport(
            source="file:///generated",
            data_fingerprint="0" * 64,
            rows_read=len(transactions),
            rows=len(transactions),
            households=transactions.household_id.nunique(),
            baskets=transactions.basket_id.nunique(),
            products=transactions.product_id.nunique(),
            start=datetime(2017, 1, 2, tzinfo=UTC),
            end=datetime(2017, 4, 9, tzinfo=UTC),
            pseudonymised=["household_id"],
            checks=[],
        )
        (folder / "quality.json").write_text(to_json(report))
        return folder

    return write
