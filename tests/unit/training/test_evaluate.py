from __future__ import annotations

import numpy as np
import pytest

from davy.core.errors import InvalidInputError
from davy.core.files import read_model
from davy.training.evaluate import Evaluation, evaluate, evaluate_file, judge
from davy.training.examples import read_examples


def test_the_model_stands_beside_its_baselines_with_intervals(
    trained, features, make_task, tmp_path
):
    evaluation = evaluate(make_task(), features, trained, tmp_path)
    (metric,) = evaluation.metrics
    assert metric.name == "ndcg@10"
    assert set(evaluation.baselines) == {"popularity", "personal"}
    assert metric.overall.lower < metric.overall.value < metric.overall.upper
    assert metric.overall.value > evaluation.baselines["popularity"].overall.value
    gain = metric.overall.value - evaluation.baselines["popularity"].overall.value
    assert evaluation.lifts["popularity"].value == pytest.approx(gain)
    assert evaluation.lifts["popularity"].lower > 0
    assert metric.overall.n == evaluation.requests == 300
    assert evaluation.households == 60
    test = read_examples(make_task(), features / "test.parquet")
    assert (evaluation.start, evaluation.end) == (test.start, test.end)
    assert set(metric.segments) == {"shopper=often", "shopper=seldom"}
    assert sum(segment.n for segment in metric.segments.values()) == 300
    assert read_model(tmp_path / "evaluation.json", Evaluation) == evaluation


def test_a_small_segment_is_left_out_with_its_size(features, make_task):
    task = make_task()
    test = read_examples(task, features / "test.parquet")
    few = test.take(np.flatnonzero(test.segments["shopper"] == "often"))
    rest = np.flatnonzero(test.segments["shopper"] == "seldom")[:20]
    both = test.take(np.concatenate([np.flatnonzero(test.segments["shopper"] == "often"), rest]))
    assert judge(task, few, few.baselines["personal"].astype(float)).left_out == {}
    evaluation = judge(task, both, both.baselines["personal"].astype(float))
    assert evaluation.left_out == {"shopper=seldom": 20}
    assert set(evaluation.metrics[0].segments) == {"shopper=often"}


def test_below_the_floor_nothing_goes_on_but_the_report_stays(
    trained, features, make_task, tmp_path
):
    message = r"ndcg@10 is 0\.\d{4} on 300 test requests, below the floor 0\.99"
    with pytest.raises(InvalidInputError, match=message):
        evaluate(make_task("objective.floor=0.99"), features, trained, tmp_path)
    assert read_model(tmp_path / "evaluation.json", Evaluation).floor == 0.99


def test_a_file_is_measured_by_its_own_scores(price_model, features, make_task, tmp_path):
    task = make_task("objective.floor=0")
    found = evaluate_file(task, features, price_model, tmp_path)
    test = read_examples(task, features / "test.parquet")
    assert found == judge(task, test, test.features["price"].astype(float))
    assert read_model(tmp_path / "evaluation.json", Evaluation) == found
    with pytest.raises(InvalidInputError, match=r"below the floor 0\.99"):
        evaluate_file(make_task("objective.floor=0.99"), features, price_model, tmp_path)
