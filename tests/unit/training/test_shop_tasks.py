"""The tasks over households: from a shop's files to a package that the predictor answers from."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.fixtures.made_up_shop import FIRST_ID, write_made_up_shop

from davy.core.clock import SystemClock
from davy.core.errors import InvalidInputError
from davy.data.table_task import TableTask, load_table_task
from davy.packaging.package import REFERENCE
from davy.predictor.model import load_model
from davy.training.tabular import train_table

TASKS = Path(__file__).parents[3] / "pipelines" / "tasks"


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return write_made_up_shop(tmp_path_factory.mktemp("shop"))


def shipped(name: str, shop: Path, **changes) -> TableTask:
    """Return a task of the repository that reads a made-up shop."""
    task = load_table_task(TASKS / f"{name}.yaml")
    data = task.data.model_copy(update={"source": f"file://{shop}"})
    objective = task.objective.model_copy(update={"floor": 0.0})
    # One member and few trees, for a small shop.
    model = task.model.model_copy(update={"members": 1, "trees": 60})
    update = {"data": data, "objective": objective, "model": model, **changes}
    return task.model_copy(update=update)


@pytest.fixture(scope="module")
def churn(shop, tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    return train_table(shipped("churn", shop), store, clock=SystemClock(), code_version="test")


def test_churn_becomes_a_package_that_serves_what_was_measured(churn):
    package, table = churn
    assert table.not_yet_known > 0
    model = load_model(package.path, public_key=None)
    (score,) = model.run(table.test.features, ("score",))
    reference = pq.read_table(package.files[REFERENCE])
    np.testing.assert_allclose(score.data, reference["score"].to_numpy(), rtol=1e-4, atol=1e-6)
    told = {metric.name: metric for metric in package.contract.metrics}
    assert told["roc_auc"].overall.value > 0.6
    assert "age=65+" in told["brier"].segments
    assert package.contract.segments == ["age", "income", "household_size", "kids_count"]
    # Who people are is measured by, and is no input.
    assert {"age", "income"}.isdisjoint(spec.name for spec in package.contract.inputs)


def test_coupon_redemption_becomes_a_package_that_serves_what_was_measured(shop, tmp_path):
    task = shipped("coupon_redemption", shop)
    package, table = train_table(task, tmp_path, clock=SystemClock(), code_version="test")
    assert table.not_yet_known > 0
    model = load_model(package.path, public_key=None)
    (score,) = model.run(table.test.features, ("score",))
    reference = pq.read_table(package.files[REFERENCE])
    np.testing.assert_allclose(score.data, reference["score"].to_numpy(), rtol=1e-4, atol=1e-6)
    assert package.contract.metrics[0].name == "pr_auc"
    constant = package.contract.baselines["constant"].overall
    assert package.contract.metrics[0].overall.value > 1.5 * constant.value
    # A household that never redeemed has no days since; the model answers all the same.
    assert np.isnan(table.test.features["days_since_redemption"]).any()


def test_no_household_is_named_in_a_package(churn):
    package, _ = churn
    names = pq.read_schema(package.files[REFERENCE]).names
    assert not [name for name in names if name.startswith("household") and "size" not in name]
    texts = [path.read_bytes() for path in package.path.rglob("*") if path.is_file()]
    raw = [str(FIRST_ID + row).encode() for row in range(60)]
    assert not [identity for identity in raw for text in texts if identity in text]


def test_an_unknown_table_is_named_with_its_nearest(shop, tmp_path):
    task = shipped("churn", shop)
    task = task.model_copy(update={"data": task.data.model_copy(update={"table": "churm"})})
    with pytest.raises(InvalidInputError, match="no table 'churm' is built; did you mean 'churn'"):
        train_table(task, tmp_path, clock=SystemClock(), code_version="test")
