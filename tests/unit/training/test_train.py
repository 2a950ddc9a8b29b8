from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from davy.core.errors import InvalidInputError, NotFoundError
from davy.training.evaluate import request_quality
from davy.training.examples import read_examples
from davy.training.fitting import Effort, fit, score
from davy.training.network import build_network, load_network
from davy.training.train import train


def test_training_learns(trained, features, make_task):
    task = make_task()
    test = read_examples(task, features / "test.parquet")
    network = load_network(task, trained / "model.pt")
    scores = score(network, test)
    learned = request_quality(task, test, scores).mean()
    by_chance = request_quality(task, test, np.random.default_rng(0).random(test.rows)).mean()
    assert learned > by_chance + 0.1


def test_scores_are_calibrated_probabilities(trained, features, make_task):
    task = make_task()
    network = load_network(task, trained / "model.pt")
    valid, test = (read_examples(task, features / f"{part}.parquet") for part in ("valid", "test"))
    assert score(network, valid).mean() == pytest.approx(valid.label.mean(), rel=1e-3)
    scores = score(network, test)
    order = np.argsort(scores)
    for part in np.array_split(order, 4)[1:]:
        assert scores[part].mean() == pytest.approx(test.label[part].mean(), abs=0.05)


def test_a_network_can_learn_to_agree_with_another(trained, features, make_task):
    task = make_task()
    rows, valid = (read_examples(task, features / f"{part}.parquet") for part in ("train", "valid"))
    teacher = load_network(task, trained / "model.pt")
    opinions = score(teacher, valid)

    def distance(targets):
        student = build_network(task, (16,))
        student.standardise(rows.features)
        effort = Effort(epochs=3, batch_rows=256, learning_rate=0.01, seed=1)
        fit(student, rows, valid, effort, k=10, targets=targets)
        return np.abs(score(student, valid) - opinions).mean()

    assert distance(score(teacher, rows)) < distance(None)


def test_the_report_says_what_was_done(trained, make_task):
    report = json.loads((trained / "training.json").read_text())
    assert report["requests"] == 400
    assert report["rows"] == 4800
    assert report["widths"] == [32, 16]
    assert report["seed"] == 3
    assert report["metric"] == "ndcg@10"
    assert 1 <= report["best_epoch"] <= len(report["epochs"]) <= 4
    assert set(report["libraries"]) == {"numpy", "torch"}


def test_the_same_seed_gives_the_same_weights_and_another_does_not(
    trained, features, make_task, tmp_path
):
    def weights(folder):
        return torch.load(folder / "model.pt", weights_only=True)

    train(make_task(), features, tmp_path / "again")
    train(make_task("model.seed=4"), features, tmp_path / "other")
    first, again, other = weights(trained), weights(tmp_path / "again"), weights(tmp_path / "other")
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["body.0.weight"], other["body.0.weight"])
    assert (trained / "training.json").read_text() == (
        tmp_path / "again" / "training.json"
    ).read_text()


def test_nothing_to_learn_and_no_file_are_named(features, make_task, tmp_path):
    with pytest.raises(NotFoundError, match=r"train\.parquet"):
        train(make_task(), tmp_path, tmp_path / "out")
    table = pq.read_table(features / "train.parquet")
    index = table.column_names.index("label")
    nothing = pa.array(np.zeros(table.num_rows, dtype=np.int8))
    pq.write_table(table.set_column(index, "label", nothing), tmp_path / "train.parquet")
    pq.write_table(pq.read_table(features / "valid.parquet"), tmp_path / "valid.parquet")
    with pytest.raises(InvalidInputError, match="nothing to learn"):
        train(make_task(), tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_diverging_fit_is_an_error(features, make_task, tmp_path):
    with pytest.raises(InvalidInputError, match=r"model\.learning_rate"):
        train(make_task("model.learning_rate=1e30"), features, tmp_path / "out")
    assert not (tmp_path / "out").exists()
