"""From a table to a package that answers: ``davy task init``, ``check``, ``davy train``."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from prometheus_client import CollectorRegistry
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.metrics import average_precision_score, roc_auc_score
from typer.testing import CliRunner

from davy.cli.main import build
from davy.core.errors import ConflictError, InvalidInputError
from davy.packaging.package import REFERENCE, read_package
from davy.predictor.families import MetricFamilies
from davy.predictor.metrics import PredictorMetrics
from davy.predictor.model import load_model
from davy.predictor.plane import DataPlane
from davy.predictor.validation import InputPolicy
from davy.protocol.tensors import tensor
from davy.protocol.v2 import InferRequest

ROWS = 1500


def run(*arguments):
    return CliRunner().invoke(build(), [*map(str, arguments)])


def done(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output or result.exception
    return result.stdout


def trained(folder, table, *, label=None, change=lambda task: None):
    """Return the package's folder that the three commands make of a table."""
    task = table.with_suffix(".yaml")
    done("task", "init", table, *(("--label", label) if label else ()))
    document = yaml.safe_load(task.read_text())
    change(document)
    task.write_text(yaml.safe_dump(document))
    done("task", "check", task)
    told = done("train", "--task", task, "--store", folder / "store")
    return read_package(folder / "store" / told.splitlines()[-1].split("store/")[-1])


def served(package, rows):
    """Return what the predictor answers to rows of the package's reference."""
    model = load_model(package.path, public_key=None)
    metrics = PredictorMetrics(MetricFamilies(CollectorRegistry()), model.contract, model.identity)
    plane = DataPlane(model, InputPolicy(model.contract.inputs), metrics)
    inputs = tuple(
        tensor(spec.name, rows[spec.name].to_numpy().copy()) for spec in model.contract.inputs
    )
    return {item.name: item.data for item in plane.infer(InferRequest(inputs)).outputs}


def reference(package):
    return pq.read_table(package.path / REFERENCE)


def difficult_table(path):
    """Write a made-up table with what tables have: gaps, spaces, a rare class, useless columns."""
    rng = np.random.default_rng(1)
    age = rng.normal(40, 12, ROWS)
    chance = 1 / (1 + np.exp(-(age - 58) / 4))
    texts = np.where(rng.random(ROWS) < 0.05, "n/a", age.round(1).astype(str))
    pd.DataFrame(
        {
            "Customer ID": rng.integers(0, 300, ROWS),
            "When Date": pd.date_range("2024-01-01", periods=ROWS, freq="h").astype(str),
            "age (years)": texts,
            "city": rng.choice(["Köln", "Paris", "", " Oslo"], ROWS),
            "empty": "",
            "same": 1,
            "score": rng.normal(size=ROWS).round(3),
            "note": [f"text {row}" for row in range(ROWS)],
            "churned": np.where(rng.random(ROWS) < chance, "yes", "no"),
        }
    ).to_csv(path, index=False)
    return path


@pytest.mark.parametrize("family", ["linear", "mlp", "gbm"])
def test_two_classes_are_served_as_they_were_measured(tmp_path, family):
    table = tmp_path / "cancer.csv"
    load_breast_cancer(as_frame=True).frame.to_csv(table, index=False)
    package = trained(
        tmp_path, table, label="target", change=lambda task: task["model"].update(family=family)
    )
    rows = reference(package)
    score = served(package, rows)["score"]
    np.testing.assert_allclose(score, rows["score"].to_numpy(), rtol=1e-5)
    # scikit-learn's own measures, of what was served.
    told = {metric.name: metric.overall for metric in package.contract.metrics}
    truth = rows["label"].to_numpy()
    assert told["roc_auc"].value == pytest.approx(roc_auc_score(truth, score))
    assert told["pr_auc"].value == pytest.approx(average_precision_score(truth, score), abs=0.01)
    assert told["roc_auc"].lower > 0.9


def test_several_classes(tmp_path):
    table = tmp_path / "wine.parquet"
    load_wine(as_frame=True).frame.to_parquet(table)
    package = trained(tmp_path, table, label="target")
    rows = reference(package)
    answer = served(package, rows)
    np.testing.assert_allclose(answer["probabilities"].sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(answer["predicted"], answer["probabilities"].argmax(axis=1))
    right = (answer["predicted"] == rows["label"].to_numpy()).mean()
    told = {metric.name: metric.overall for metric in package.contract.metrics}
    assert told["accuracy"].value == pytest.approx(right)
    assert right > 0.9


def test_a_number(tmp_path):
    table = tmp_path / "diabetes.csv"
    load_diabetes(as_frame=True).frame.to_csv(table, index=False)
    package = trained(tmp_path, table)
    rows = reference(package)
    score = served(package, rows)["score"]
    truth = rows["label"].to_numpy()
    r2 = 1 - ((truth - score) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()
    told = {metric.name: metric.overall for metric in package.contract.metrics}
    assert told["r2"].value == pytest.approx(r2, abs=1e-4)
    assert r2 > 0.2


def test_a_difficult_table(tmp_path):
    package = trained(
        tmp_path,
        difficult_table(tmp_path / "made up.csv"),
        change=lambda task: task.update(segments=["city"]),
    )
    names = [spec.name for spec in package.contract.inputs]
    assert names == ["age_years", "city", "score_value"]
    [metric] = [metric for metric in package.contract.metrics if metric.name == "roc_auc"]
    assert metric.overall.lower > 0.7
    assert {"city=(other)", "city=Paris"} <= set(metric.segments)
    # A gap and a city that nobody knows are answered, with a chance.
    rows = reference(package).slice(0, 2)
    rows = rows.set_column(
        rows.schema.get_field_index("age_years"), "age_years", [np.array([np.nan, 90], "f4")]
    )
    low, high = served(package, rows)["score"]
    assert 0 < low < high < 1


def test_what_is_drafted_asks_a_person(tmp_path):
    table = difficult_table(tmp_path / "table.csv")
    done("task", "init", table)
    text = (tmp_path / "table.yaml").read_text()
    task = yaml.safe_load(text)
    assert task["time"] == "When Date"
    assert task["entity"] == "Customer ID"
    assert task["label"] == {"name": "churned", "classes": ["no", "yes"], "delay_days": 0}
    assert "Is 'churned' what is to be predicted? It was guessed." in text
    assert "# left out: 'note' (text)" in text
    again = run("task", "init", table)
    assert isinstance(again.exception, ConflictError)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": {"name": "churnd", "classes": ["no", "yes"]}}, "did you mean 'churned'"),
        ({"objective": {"metric": "rocauc"}}, "did you mean 'roc_auc'"),
        ({"objective": {"metric": "roc_auc", "floor": 0.9999}}, "below the floor"),
        ({"label": {"name": "churned", "classes": ["No", "Yes"]}}, "none of label.classes"),
        ({"segements": []}, "did you mean 'segments'"),
        ({"kind": "ranking"}, "davy pipeline run"),
        ({"data": {"source": "file://table.xlsx"}}, "file://NAME.csv"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, change, message):
    table = difficult_table(tmp_path / "table.csv")
    done("task", "init", table)
    path = tmp_path / "table.yaml"
    task = yaml.safe_load(path.read_text()) | change
    path.write_text(yaml.safe_dump(task))
    result = run("train", "--task", path, "--store", tmp_path / "store")
    assert isinstance(result.exception, InvalidInputError)
    assert message in str(result.exception)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("text", ["", "a,b\n", "a,a\n1,2\n", 'a,b\n"1,2\n', "\0\xff"])
def test_a_table_that_is_none(tmp_path, text):
    table = tmp_path / "table.csv"
    table.write_text(text, encoding="latin-1")
    result = run("task", "init", table)
    assert isinstance(result.exception, InvalidInputError)
    assert str(table) in str(result.exception)
