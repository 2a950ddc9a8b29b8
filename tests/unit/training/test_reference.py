from __future__ import annotations

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest

from davy.core.errors import InvalidInputError, NotFoundError
from davy.training.examples import read_examples
from davy.training.reference import write_reference


def test_one_row_of_each_request_with_its_score(features, make_task, price_model, tmp_path):
    task = make_task()
    table = pq.read_table(write_reference(task, features, price_model, tmp_path)).to_pandas()
    assert list(table.columns) == [
        "block", *(feature.name for feature in task.features),
        "score", "label", "segment_shopper",
    ]  # fmt: skip
    assert len(table) == 600
    assert sorted(table["block"].unique()) == [5, 6, 7, 8]
    np.testing.assert_array_equal(table["score"], table["price"])
    test = read_examples(task, features / "test.parquet")
    first = table.iloc[300]
    low, high = test.starts[0], test.starts[1]
    matches = np.flatnonzero(test.features["price"][low:high] == np.float32(first["price"]))
    assert matches.size == 1
    assert first["label"] == test.label[low + matches[0]]
    assert first["block"] == test.week[0]


def test_the_seed_draws_the_rows(features, make_task, price_model, tmp_path):
    def prices(task, name):
        path = write_reference(task, features, price_model, tmp_path / name)
        return pq.read_table(path)["price"].to_numpy()

    first, again = prices(make_task(), "a"), prices(make_task(), "b")
    other = prices(make_task("model.seed=8"), "c")
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.8


def test_a_missing_or_foreign_model_is_named(features, make_task, price_model, tmp_path):
    with pytest.raises(NotFoundError, match="no such file"):
        write_reference(make_task(), features, tmp_path / "absent.onnx", tmp_path)
    foreign = onnx.load(price_model)
    foreign.graph.input[0].name = "something_else"
    onnx.save(foreign, tmp_path / "foreign.onnx")
    with pytest.raises(InvalidInputError, match="does not take the rows"):
        write_reference(make_task(), features, tmp_path / "foreign.onnx", tmp_path)
    assert not (tmp_path / "reference.parquet").exists()
