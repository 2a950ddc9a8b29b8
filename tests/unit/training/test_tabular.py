"""Any table: from a file to a package that the predictor loads and answers from."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_diabetes, load_wine
from sklearn.metrics import average_precision_score, f1_score, r2_score, roc_auc_score

from davy.core.clock import SystemClock
from davy.core.errors import InvalidInputError
from davy.data.table import encode, read_table
from davy.data.table_draft import draft_task
from davy.data.table_task import TableTask, load_table_task
from davy.predictor.model import load_model
from davy.predictor.validation import InputPolicy
from davy.training import tabular_measures as measures
from davy.training.tabular import predict, train_table
from davy.training.tabular_fit import fit_mlp, matrix, measure_scale
from davy.training.tabular_graph import dense_model


def drafted(table: Path, **changes) -> TableTask:
    path = table.with_suffix(".yaml")
    path.write_text(draft_task(table))
    task = load_table_task(path)
    return TableTask.model_validate({**task.model_dump(), **changes})


def trained(task: TableTask, store: Path):
    return train_table(task, store, clock=SystemClock(), code_version="test")


def nasty_synthetic(path: Path, rows: int = 3000) -> Path:
    """A table with gaps, odd types, categories that only come late, and a class of 1 %."""
    rng = np.random.default_rng(3)
    amount = rng.lognormal(3, 1, rows)
    shop = rng.choice(["north", "süd", "o,st"], rows).astype(object)
    risk = (shop == "süd") * 1.5 + np.log(amount) - 3
    label = np.where(risk + rng.normal(0, 0.3, rows) > np.quantile(risk, 0.988), "yes", "no")
    shop[rows - 100 :] = "unseen"
    text = np.array([f"{value:.3f}" for value in amount], dtype=object)
    text[rng.random(rows) < 0.1] = ""
    text[5], text[6] = "12 EUR", "inf"
    label = label.astype(object)
    label[7] = ""
    time = pd.date_range("2026-01-01", periods=rows, freq="h").astype(str)
    frame = {"Order ID": np.arange(rows), "1st amount": text, "shop": shop, "empty": "",
             "made_at": time, "churn": label}  # fmt: skip
    pd.DataFrame(frame).to_csv(path, index=False)
    return path


@pytest.mark.parametrize(("family", "floor"), [("linear", 0.9), ("mlp", 0.9), ("gbm", 0.9)])
def test_a_nasty_synthetic_table_becomes_a_package_that_serves(tmp_path, family, floor):
    task = drafted(
        nasty_synthetic(tmp_path / "orders.csv"),
        entity=None,
        model={"family": family, "epochs": 30},
        objective={"metric": "roc_auc", "floor": floor},
        segments=("shop",),
    )
    assert task.label.classes == ("no", "yes")
    package, table = trained(task, tmp_path / "store")
    assert table.reasons() == {"churn: no label": 1}
    assert table.set_aside[0][0] == 8
    assert table.unreadable == {"x_1st_amount": 2}
    assert table.train.label.mean() < 0.03
    model = load_model(package.path, public_key=None)
    assert model.together, model.apart
    checked = {
        "x_1st_amount": np.array([20.0, np.nan, 20.0], np.float32),
        "shop": np.array([1, 0, 99]),
    }
    (score,) = model.run(checked, ("score",))
    assert np.isfinite(score.data).all()
    assert ((score.data >= 0) & (score.data <= 1)).all()
    assert set(InputPolicy(package.contract.inputs)._specs) == set(checked)
    (again,) = model.run(table.test.features, ("score",))
    direct = predict(package.files["model.onnx"], table.test.features)["score"]
    np.testing.assert_allclose(again.data, direct, rtol=1e-5, atol=1e-6)


def test_what_is_served_is_what_torch_gives(tmp_path):
    task = drafted(nasty_synthetic(tmp_path / "orders.csv", 600), model={"family": "mlp"})
    table = read_table(task)
    scale = measure_scale(task, table.train.features)
    rows = matrix(task, scale, table.train.features)
    held = matrix(task, scale, table.valid.features)
    dense = fit_mlp(task, rows, table.train.label, held, table.valid.label)
    path = tmp_path / "model.onnx"
    path.write_bytes(dense_model(task, scale, dense).SerializeToString())
    value = torch.from_numpy(held)
    for index, (weight, bias) in enumerate(dense.layers):
        value = value @ torch.from_numpy(weight) + torch.from_numpy(bias)
        value = value if index == len(dense.layers) - 1 else torch.relu(value)
    expected = torch.sigmoid(value[:, 0]).numpy()
    found = predict(path, table.valid.features)["score"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_three_classes_and_a_number_are_learnt(tmp_path):
    load_wine(as_frame=True).frame.to_csv(tmp_path / "wine.csv", index=False)
    package, _ = trained(drafted(tmp_path / "wine.csv"), tmp_path / "store")
    found = package.contract.metrics[0]
    assert found.name == "macro_f1"
    assert found.overall.lower > package.contract.baselines["constant"].overall.upper
    model = load_model(package.path, public_key=None)
    names = ("score", "predicted", "probabilities")
    feed = {spec.name: np.array([1.0, 2.0], np.float32) for spec in package.contract.inputs}
    score, predicted, chances = model.run(feed, names)
    np.testing.assert_allclose(chances.data.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(predicted.data, chances.data.argmax(axis=1))
    np.testing.assert_allclose(score.data, chances.data.max(axis=1))

    load_diabetes(as_frame=True).frame.to_parquet(tmp_path / "diabetes.parquet")
    package, _ = trained(drafted(tmp_path / "diabetes.parquet"), tmp_path / "store")
    assert package.contract.kind == "regression"
    assert package.contract.metrics[0].overall.lower > 0


def test_a_model_below_its_floor_is_not_packaged(tmp_path):
    load_wine(as_frame=True).frame.to_csv(tmp_path / "wine.csv", index=False)
    task = drafted(tmp_path / "wine.csv", objective={"metric": "accuracy", "floor": 1.1})
    with pytest.raises(InvalidInputError, match="below the floor"):
        trained(task, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_later_rows_test_and_no_moment_is_in_two_parts(tmp_path):
    task = drafted(nasty_synthetic(tmp_path / "orders.csv", 1000))
    table = read_table(task)
    assert task.time == "made_at"
    assert table.start == datetime(2026, 1, 1, tzinfo=UTC)
    # What came only late was never given a code by a task that lists the earlier ones.
    narrow = task.features[1].model_copy(update={"categories": ("north",)})
    assert encode(narrow, ["north", "unseen", None, ""]).tolist() == [1, 0, 0, 0]


def test_measures_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    label = (rng.random(300) < 0.3).astype(float)
    score = np.round(np.clip(label * 0.3 + rng.random(300) * 0.7, 0, 1), 1)
    weight = rng.integers(0, 3, 300).astype(float)
    called = (score > 0.5).astype(float)
    pairs = [
        (measures.roc_auc(label, score, weight), roc_auc_score(label, score, sample_weight=weight)),
        (
            measures.pr_auc(label, score, weight),
            average_precision_score(label, score, sample_weight=weight),
        ),
        (measures.f1(label, called, weight), f1_score(label, called, sample_weight=weight)),
        (measures.r2(label, score, weight), r2_score(label, score, sample_weight=weight)),
    ]
    for own, theirs in pairs:
        assert own == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objective": {"metric": "roc_auk"}}, "did you mean 'roc_auc'"),
        ({"segments": ["shopp"]}, "did you mean 'shop'"),
        ({"label": {"name": "churn", "classes": ["no"]}}, "two different classes"),
    ],
)
def test_faults_of_a_task_are_explained(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        drafted(nasty_synthetic(tmp_path / "orders.csv", 200), **change)


def test_a_misspelt_column_is_named_with_its_nearest(tmp_path):
    task = drafted(nasty_synthetic(tmp_path / "orders.csv", 200), time="made_att")
    with pytest.raises(InvalidInputError, match="time: no column 'made_att'; did you mean"):
        read_table(task)
