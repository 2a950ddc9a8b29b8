"""The steps one after another, on few households, as the pipeline calls them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from davy.data.task import load_task, parse_task, task_text
from davy.kubeflow import steps
from davy.outlier.document import OutlierDocument, from_document
from davy.packaging.package import Package
from davy.training.evaluate import judge
from davy.training.examples import read_examples
from davy.training.scoring import file_scores

TASK = Path(__file__).parents[3] / "pipelines/tasks/next_basket.yaml"
# Whatever int8 costs is allowed here: the one that ships must differ from the trained network.
OVERRIDES = [
    "model.epochs=1",
    "model.train_baskets=200",
    "objective.floor=0",
    "compression.candidates=[fp32, int8]",
    "compression.budget=1",
    "monitoring.window_rows=50",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Package]:
    """The folder of the steps' outputs, and the package."""
    root = tmp_path_factory.mktemp("run")
    text = task_text(load_task(TASK, OVERRIDES))
    evidence = steps.Evidence(
        data=root / "data",
        features=root / "features",
        model=root / "model",
        candidates=root / "candidates",
        choice=root / "choice",
        exported=root / "exported",
    )
    steps.prepare_data(text, 40, out=evidence.data)
    steps.build_features(text, evidence.data, out=evidence.features)
    steps.train_model(text, evidence.features, out=evidence.model)
    steps.evaluate_model(text, evidence.features, evidence.model, out=root / "evaluation")
    steps.compress_model(text, evidence.features, evidence.model, out=evidence.candidates)
    steps.choose_candidate(text, evidence.candidates, out=evidence.choice)
    steps.export_onnx(
        text, evidence.features, evidence.candidates, evidence.choice, out=evidence.exported
    )
    package = steps.package_model(
        text,
        evidence,
        store=root / "store",
        parent=None,
        private_key=None,
        pipeline_run=None,
        out=root / "package",
    )
    return root, package


def test_the_contract_speaks_of_the_model_in_the_package(made: tuple[Path, Package]) -> None:
    root, package = made
    contract = package.contract
    assert contract.compression.chosen == "int8"
    task = parse_task(package.content("evidence/task.yaml").decode())
    test = read_examples(task, root / "features" / "test.parquet")
    scores = file_scores(package.files["model.onnx"], test.features)
    expected = judge(task, test, scores.astype(np.float64))
    assert contract.metrics == expected.metrics
    assert contract.baselines == expected.baselines
    assert contract.measured is not None
    assert contract.training.end < contract.measured.start == test.start
    evidence = json.loads(package.content("evidence/evaluation.json"))
    lifts = {name: item.model_dump() for name, item in expected.lifts.items()}
    assert evidence["lifts"] == lifts
    network = json.loads((root / "evaluation" / "evaluation.json").read_text())
    assert network["metrics"][0]["overall"] != evidence["metrics"][0]["overall"]
    whole = contract.compression.candidates[0]
    assert whole.name == "fp32"
    assert whole.quality.value == pytest.approx(network["metrics"][0]["overall"]["value"])


def test_no_household_is_named_in_the_package(made: tuple[Path, Package]) -> None:
    root, package = made
    table = pq.read_table(root / "data" / "transactions.parquet", columns=["household_id"])
    pseudonyms = set(table["household_id"].to_pylist())
    assert len(pseudonyms) > 20
    for name in package.files:
        content = package.content(name)
        words = content.decode("utf-8", errors="replace")
        if name.endswith(".parquet"):
            words = pq.read_table(io.BytesIO(content)).to_pandas().to_csv()
        named = [pseudonym for pseudonym in pseudonyms if str(pseudonym) in words]
        assert named == [], name


def test_the_package_holds_the_outlier_detector_of_its_contract(made: tuple[Path, Package]) -> None:
    _, package = made
    outliers = package.contract.outliers
    assert outliers is not None
    document = OutlierDocument.model_validate_json(package.content(outliers.file))
    assert document.threshold.value == outliers.threshold
    table = pq.read_table(package.files["reference.parquet"])
    rows = {feature.name: table[feature.name].to_numpy() for feature in package.contract.inputs}
    detector = from_document(document)
    assert detector.flags(rows).mean() < 0.05
    # What a household spends, in cents.
    assert detector.flags({**rows, "spend_28d": rows["spend_28d"] * 100}).mean() > 0.5
    assert outliers.why in package.content("card.md").decode()
