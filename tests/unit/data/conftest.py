"""Small raw tables, as a shop would export them, for the tests of the data step."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from davy.data.settings import PipelineSettings
from davy.data.task import Task, load_task

ROOT = Path(__file__).parents[3]
TASK_FILE = ROOT / "pipelines" / "tasks" / "next_basket.yaml"


@pytest.fixture(scope="session")
def raw_transactions() -> pd.DataFrame:
    """Twenty households, one basket of three lines each in weeks 1 to 16."""
    rng = np.random.default_rng(4)
    rows = []
    for week in range(1, 17):
        for household in range(1, 21):
            time = datetime(2017, 1, 2, 14) + timedelta(weeks=week - 1, hours=5 * household)  # noqa: DTZ001
            rows += [
                {
                    "household_id": household,
                    "store_id": 7,
                    "basket_id": 100 * week + household,
                    "product_id": 50 + (household + 3 * line) % 10,
                    "quantity": int(rng.integers(1, 5)),
                    "sales_value": round(float(rng.uniform(1, 9)), 2),
                    "retail_disc": 0.25,
                    "coupon_disc": 0.0,
                    "coupon_match_disc": 0.0,
                    "week": week,
                    "transaction_timestamp": time,
                }
                for line in range(3)
            ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="session")
def raw_products() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "product_id": range(50, 60),
            "department": ["GROCERY", "PRODUCE"] * 5,
            "brand": "National",
        }
    )


@pytest.fixture
def write_raw(tmp_path) -> Callable[[pd.DataFrame, pd.DataFrame], Task]:
    """Return a function that writes a source folder and gives a task that reads it."""

    def write(transactions: pd.DataFrame, products: pd.DataFrame) -> Task:
        folder = tmp_path / "source"
        folder.mkdir(exist_ok=True)
        transactions.to_parquet(folder / "transactions.parquet")
        products.to_parquet(folder / "products.parquet")
        return load_task(
            TASK_FILE,
            [
                f"data.source=file://{folder}",
                "split={train: [5, 10], valid: [11, 12], test: [13, 14], replay: [15, 16]}",
            ],
        )

    return write


@pytest.fixture
def settings() -> PipelineSettings:
    return PipelineSettings(pseudonym_key="a key that is only for tests")
