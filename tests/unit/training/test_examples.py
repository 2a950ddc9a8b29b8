from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

from davy.core.errors import InvalidInputError, NotFoundError
from davy.training.examples import read_examples


def test_rows_are_read_by_request_with_the_tasks_types(features, make_task):
    task = make_task()
    examples = read_examples(task, features / "train.parquet")
    assert examples.requests == 500
    assert examples.rows == 6000
    assert list(examples.features) == [feature.name for feature in task.features]
    assert examples.features["days_since"].dtype == np.int64
    assert examples.features["gap"].dtype == np.float32
    assert np.isnan(examples.features["gap"]).any()
    assert set(examples.groups()) == {"shopper=often", "shopper=seldom"}
    assert examples.start < examples.end
    assert examples.start.utcoffset().total_seconds() == 0


def test_a_sample_keeps_requests_whole_and_in_order(features, make_task):
    examples = read_examples(make_task(), features / "test.parquet")
    few = examples.sample(7, np.random.default_rng(0))
    assert few.requests == 7
    assert few.sizes().tolist() == [12] * 7
    position = {name: index for index, name in enumerate(examples.request)}
    chosen = [position[name] for name in few.request]
    assert chosen == sorted(chosen)
    first = examples.starts[chosen[3]]
    np.testing.assert_array_equal(
        few.features["price"][few.starts[3] : few.starts[3] + 12],
        examples.features["price"][first : first + 12],
    )
    assert examples.sample(10**6, np.random.default_rng(0)) is examples


def test_bad_files_are_named(features, make_task, tmp_path):
    with pytest.raises(NotFoundError, match=r"absent\.parquet: no such file"):
        read_examples(make_task(), tmp_path / "absent.parquet")

    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 no")
    with pytest.raises(InvalidInputError, match="cannot be read as Parquet"):
        read_examples(make_task(), broken)

    table = pq.read_table(features / "valid.parquet")
    path = tmp_path / "valid.parquet"
    pq.write_table(table.drop_columns(["gap", "segment_shopper"]), path)
    with pytest.raises(InvalidInputError, match="lacks the columns gap, segment_shopper"):
        read_examples(make_task(), path)

    pq.write_table(table.slice(0, 0), path)
    with pytest.raises(InvalidInputError, match="has no rows"):
        read_examples(make_task(), path)

    as_text = table.column("department").cast("string")
    index = table.column_names.index("department")
    pq.write_table(table.set_column(index, "department", as_text), path)
    with pytest.raises(InvalidInputError, match="column 'department' holds string"):
        read_examples(make_task(), path)

    scattered = np.argsort(np.arange(table.num_rows) % 12, kind="stable")
    pq.write_table(table.take(scattered), path)
    with pytest.raises(InvalidInputError, match="not contiguous"):
        read_examples(make_task(), path)
