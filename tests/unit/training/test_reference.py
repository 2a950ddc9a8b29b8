from __future__ import annotations

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper

from davy.core.errors import InvalidInputError, NotFoundError
from davy.training.examples import read_examples
from davy.training.reference import write_reference


@pytest.fixture(scope="module")
def model(make_task, tmp_path_factory):
    """A stand-in model whose score is the price."""
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    inputs = [
        helper.make_tensor_value_info(
            feature.name,
            TensorProto.INT64 if feature.type == "category" else TensorProto.FLOAT,
            ["rows"],
        )
        for feature in make_task().features
    ]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["price"], ["score"])],
        "stand_in",
        inputs,
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["rows"])],
    )
    opset = helper.make_opsetid("", 18)
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[opset]), path)
    return path


def test_one_row_of_each_held_out_request_with_its_score(features, make_task, model, tmp_path):
    task = make_task()
    table = pq.read_table(write_reference(task, features, model, tmp_path)).to_pandas()
    assert list(table.columns) == [
        "request_id", "block", *(feature.name for feature in task.features),
        "score", "label", "segment_shopper",
    ]  # fmt: skip
    assert table["request_id"].is_unique
    assert len(table) == 600
    assert sorted(table["block"].unique()) == [5, 6, 7, 8]
    np.testing.assert_array_equal(table["score"], table["price"])
    test = read_examples(task, features / "test.parquet")
    first = table[table["request_id"] == test.request[0]].iloc[0]
    low, high = test.starts[0], test.starts[1]
    matches = np.flatnonzero(test.features["price"][low:high] == np.float32(first["price"]))
    assert matches.size == 1
    assert first["label"] == test.label[low + matches[0]]
    assert first["block"] == test.week[0]


def test_the_seed_draws_the_rows(features, make_task, model, tmp_path):
    def prices(task, name):
        path = write_reference(task, features, model, tmp_path / name)
        return pq.read_table(path)["price"].to_numpy()

    first, again = prices(make_task(), "a"), prices(make_task(), "b")
    other = prices(make_task("model.seed=8"), "c")
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.8


def test_a_missing_or_foreign_model_is_named(features, make_task, model, tmp_path):
    with pytest.raises(NotFoundError, match="no such file"):
        write_reference(make_task(), features, tmp_path / "absent.onnx", tmp_path)
    foreign = onnx.load(model)
    foreign.graph.input[0].name = "something_else"
    onnx.save(foreign, tmp_path / "foreign.onnx")
    with pytest.raises(InvalidInputError, match="does not take the reference rows"):
        write_reference(make_task(), features, tmp_path / "foreign.onnx", tmp_path)
    assert not (tmp_path / "reference.parquet").exists()
