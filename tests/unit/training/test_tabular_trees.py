"""Boosted trees: what LightGBM says, what its graph says, and what is served are the same."""

import lightgbm
import numpy as np
import onnxruntime as ort
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from davy.core.clock import SystemClock
from davy.data.table import read_table
from davy.data.table_draft import draft_task
from davy.data.table_task import TableTask, load_table_task
from davy.predictor.model import load_model
from davy.training.tabular import predict, train_table
from davy.training.tabular_fit import matrix, measure_scale
from davy.training.tabular_graph import fitted_model
from davy.training.tabular_trees import _below, exported, fit_gbm


def cancer() -> pd.DataFrame:
    """Eight of the thirty columns: each costs its share of the null distances."""
    frame = load_breast_cancer(as_frame=True).frame
    return frame[[*frame.columns[:8], "target"]]


TABLES = {
    "binary": cancer,
    "multiclass": lambda: load_wine(as_frame=True).frame,
    "regression": lambda: load_diabetes(as_frame=True).frame,
}


def gbm_task(frame: pd.DataFrame, folder, **model) -> TableTask:
    frame.to_parquet(folder / "table.parquet")
    path = folder / "table.yaml"
    path.write_text(draft_task(folder / "table.parquet", label="target"))
    task = load_table_task(path)
    return TableTask.model_validate(
        {**task.model_dump(), "model": {"family": "gbm", "trees": 60, **model}}
    )


def with_gaps(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a copy with a tenth of the first column's values gone, and a category."""
    rng = np.random.default_rng(0)
    frame = frame.copy()
    first = frame.columns[0]
    frame.loc[rng.random(len(frame)) < 0.1, first] = np.nan
    frame["site"] = rng.choice(["north", "süd", "west"], len(frame))
    return frame


@pytest.mark.parametrize("form", TABLES)
def test_lightgbm_and_the_served_package_agree(form, tmp_path, monkeypatch):
    seen = []
    real = lightgbm.train
    monkeypatch.setattr(lightgbm, "train", lambda *a, **k: seen.append(real(*a, **k)) or seen[-1])
    task = gbm_task(with_gaps(TABLES[form]()), tmp_path, members=2)
    package, table = train_table(task, tmp_path / "store", clock=SystemClock(), code_version="test")
    # Each member is fitted twice: to find its number of trees, and with that number.
    members = seen[1::2]
    assert len(seen) == 4
    rows = matrix(task, measure_scale(task, table.train.features), table.test.features)
    assert np.isnan(table.test.features[task.features[0].name]).any()
    sums = np.mean([booster.predict(rows, raw_score=True) for booster in members], axis=0)
    model = load_model(package.path, public_key=None)
    names = [spec.name for spec in package.contract.outputs]
    served = dict(zip(names, (t.data for t in model.run(table.test.features, names)), strict=True))
    if form == "multiclass":
        chances = np.exp(sums) / np.exp(sums).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(served["probabilities"], chances, atol=1e-5)
        np.testing.assert_array_equal(served["predicted"], chances.argmax(axis=1))
    elif form == "binary":
        np.testing.assert_allclose(served["score"], 1 / (1 + np.exp(-sums)), atol=1e-5)
    else:
        label = table.train.label
        np.testing.assert_allclose(served["score"], sums * label.std() + label.mean(), rtol=1e-4)
    baseline = package.contract.baselines["constant"].overall
    assert package.contract.metrics[0].overall.lower > baseline.value
    assert "lightgbm" in package.contract.training.libraries
    direct = predict(package.files["model.onnx"], table.test.features)["score"]
    np.testing.assert_array_equal(direct, served["score"])


def test_a_fit_is_repeatable_to_the_bit_and_hangs_on_its_seed(tmp_path):
    task = gbm_task(with_gaps(TABLES["binary"]()), tmp_path)
    table = read_table(task)
    scale = measure_scale(task, table.train.features)
    parts = [matrix(task, scale, part.features) for part in (table.train, table.valid)]

    def fitted(seed):
        model = task.model.model_copy(update={"seed": seed})
        one = task.model_copy(update={"model": model})
        return fit_gbm(one, parts[0], table.train.label, parts[1], table.valid.label)

    assert fitted(7) == fitted(7)
    assert fitted(7) != fitted(8)


def test_rows_at_a_threshold_keep_their_side():
    # Neighbours in float32 around 0.1: the threshold lies between two of them.
    low = np.float32(0.1)
    high = np.nextafter(low, np.float32(1))
    rows = np.repeat(np.array([low, high], np.float32), 60)[:, None]
    label = np.repeat([0.0, 1.0], 60)
    settings = {"objective": "l2", "min_data_in_leaf": 5, "verbosity": -1, "num_threads": 1,
                "min_data_in_bin": 1}  # fmt: skip
    booster = lightgbm.train(settings, lightgbm.Dataset(rows, label, params=settings), 5)
    trees = exported([booster])
    # Not a test of a stump that never split.
    assert any(node[4] == "BRANCH_LEQ" for node in trees.nodes)
    for node in trees.nodes:
        if node[4] == "BRANCH_LEQ":
            assert low <= np.float32(node[3]) < high


@pytest.mark.parametrize("value", [0.1, 1 / 3, -0.1, 1e-35, 3.0, -2.5, 16777217.0])
def test_the_float32_below_is_the_largest_that_is(value):
    below = np.float32(_below(value))
    assert float(below) <= value
    assert float(np.nextafter(below, np.float32(np.inf))) > value


def test_a_table_in_which_nothing_can_be_learnt_gives_the_mean(tmp_path):
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"a": rng.normal(size=300), "target": rng.normal(5, 0.1, size=300)})
    task = gbm_task(frame, tmp_path)
    table = read_table(task)
    scale = measure_scale(task, table.train.features)
    parts = [matrix(task, scale, part.features) for part in (table.train, table.valid)]
    trees = fit_gbm(task, parts[0], table.train.label, parts[1], table.valid.label)
    session = ort.InferenceSession(fitted_model(task, scale, trees).SerializeToString())
    (score,) = session.run(["score"], dict(table.test.features))
    assert np.abs(score - 5).max() < 0.1
