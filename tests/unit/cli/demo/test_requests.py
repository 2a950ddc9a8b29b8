from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from davy.cli.demo.requests import BROKEN_FEATURE, SHIFTED_FEATURE, prepare, read_prepared
from davy.core.errors import InvalidInputError
from davy.packaging.contract import TensorSpec
from davy.protocol import v2

INPUTS = [
    TensorSpec(name="days_since_basket", datatype="INT64"),
    TensorSpec(name=BROKEN_FEATURE, datatype="FP32"),
    TensorSpec(name=SHIFTED_FEATURE, datatype="FP32"),
]


@pytest.fixture
def replay(tmp_path: Path) -> Path:
    path = tmp_path / "replay.parquet"
    pq.write_table(
        pa.table(
            {
                "request_id": ["a", "a", "b", "c", "c", "c"],
                "days_since_basket": pa.array([1, 1, 2, 3, 3, 3], pa.int64()),
                BROKEN_FEATURE: pa.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], pa.float32()),
                SHIFTED_FEATURE: pa.array([1, 2, 3, 4, 5, None], pa.float32()),
            }
        ),
        path,
    )
    return path


def decoded(prepared, number=7):
    body, headers = prepared.with_id(number)
    return v2.decode_request(body, int(headers["Inference-Header-Content-Length"]))


def test_each_basket_is_a_request_with_its_own_id(replay: Path, tmp_path: Path):
    assert prepare(replay, INPUTS, tmp_path / "out") == 3
    phases = read_prepared(tmp_path / "out")
    assert [decoded(p).inputs[0].shape for p in phases["normal"]] == [(2,), (1,), (3,)]
    request = decoded(phases["normal"][2], 42)
    assert request.id == f"{42:020d}"
    assert request.binary("score")
    np.testing.assert_array_equal(request.inputs[0].data, [3, 3, 3])
    np.testing.assert_array_equal(request.inputs[2].data, np.float32([4, 5, np.nan]))


def test_the_drift_phase_breaks_two_features_and_no_other(replay: Path, tmp_path: Path):
    prepare(replay, INPUTS, tmp_path / "out")
    phases = read_prepared(tmp_path / "out")
    for normal, drift in zip(phases["normal"], phases["drift"], strict=True):
        before, after = decoded(normal).inputs, decoded(drift).inputs
        np.testing.assert_array_equal(before[0].data, after[0].data)
        assert np.isnan(after[1].data).all()
        assert not np.isnan(before[1].data).any()
        np.testing.assert_allclose(after[2].data, before[2].data * 1.25)


def test_a_model_input_without_a_column_is_named(replay: Path, tmp_path: Path):
    inputs = [*INPUTS, TensorSpec(name="colour", datatype="FP32")]
    with pytest.raises(InvalidInputError, match="colour"):
        prepare(replay, inputs, tmp_path / "out")
