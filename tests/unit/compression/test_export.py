from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from davy.compression.export import (
    check,
    export,
    finish,
    open_session,
    read_onnx,
    sample_inputs,
    write_model,
)
from davy.core.errors import InvalidInputError, NotFoundError

CANDIDATES = ["fp32", "int8", "pruned", "pruned_int8"]


def _run(path, inputs):
    return open_session(path).run(["score"], dict(inputs))[0]


@pytest.mark.parametrize("name", CANDIDATES)
def test_inputs_and_output_are_those_of_the_contract(compressed, make_task, name):
    model = read_onnx(compressed / f"{name}.onnx")
    inputs = {value.name: value.type.tensor_type for value in model.graph.input}
    assert list(inputs) == [feature.name for feature in make_task().features]
    assert inputs["department"].elem_type == onnx.TensorProto.INT64
    assert inputs["price"].elem_type == onnx.TensorProto.FLOAT
    assert all([dim.dim_param for dim in item.shape.dim] == ["rows"] for item in inputs.values())
    assert [value.name for value in model.graph.output] == ["score"]
    assert (model.ir_version, model.opset_import[0].version) == (8, 18)


@pytest.mark.parametrize("name", CANDIDATES)
def test_batch_1_and_batch_100_give_the_same_scores(compressed, make_task, name):
    inputs = sample_inputs(make_task(), 100)
    together = _run(compressed / f"{name}.onnx", inputs)
    session = open_session(compressed / f"{name}.onnx")
    alone = np.concatenate(
        [
            session.run(["score"], {key: column[i : i + 1] for key, column in inputs.items()})[0]
            for i in range(100)
        ]
    )
    assert together.shape == (100,)
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, alone, atol=1e-6)


@pytest.mark.parametrize("name", CANDIDATES)
@pytest.mark.parametrize("feature", ["days_since", "department"])
@pytest.mark.parametrize("beyond", [-1, 1])
def test_a_code_outside_its_range_fails_in_onnxruntime(
    compressed, make_task, name, feature, beyond
):
    task = make_task()
    allowed = next(item for item in task.features if item.name == feature).range
    inputs = dict(sample_inputs(task, 4))
    inputs[feature] = inputs[feature].copy()
    inputs[feature][2] = allowed.high + 1 if beyond > 0 else allowed.low - 1
    with pytest.raises(ort.capi.onnxruntime_pybind11_state.InvalidArgument, match="out of data"):
        _run(compressed / f"{name}.onnx", inputs)


@pytest.mark.parametrize("name", CANDIDATES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_missing_and_wild_numbers_give_finite_scores(compressed, make_task, name, value):
    task = make_task()
    inputs = {
        feature.name: np.full(3, value, dtype=np.float32)
        if feature.type == "number"
        else np.full(3, feature.range.low, dtype=np.int64)
        for feature in task.features
    }
    scores = _run(compressed / f"{name}.onnx", inputs)
    assert np.isfinite(scores).all()
    assert ((scores > 0) & (scores < 1)).all()


def test_the_export_agrees_with_torch(network, make_task, tmp_path):
    difference = export(network, make_task(), tmp_path / "model.onnx")
    assert 0 <= difference < 1e-5


def test_the_same_network_gives_the_same_bytes(network, make_task, tmp_path):
    for name in ("first", "second"):
        export(network, make_task(), tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_the_finished_model_gives_its_candidates_scores(compressed, make_task, tmp_path):
    path = finish(compressed / "pruned_int8.onnx", make_task(), tmp_path)
    assert path == tmp_path / "model.onnx"
    inputs = sample_inputs(make_task(), 50, seed=9)
    np.testing.assert_array_equal(_run(path, inputs), _run(compressed / "pruned_int8.onnx", inputs))


def test_another_tasks_model_is_refused_and_nothing_is_written(compressed, make_task, tmp_path):
    fewer = make_task()
    fewer = fewer.model_copy(update={"features": fewer.features[:-1]})
    with pytest.raises(InvalidInputError, match=r"inputs are days_since, .*department, expected"):
        finish(compressed / "fp32.onnx", fewer, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_wrong_types_and_versions_are_named(compressed, make_task):
    model = read_onnx(compressed / "fp32.onnx")
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    model.opset_import[0].version = 17
    model.opset_import.add(domain="com.microsoft", version=1)
    with pytest.raises(InvalidInputError) as caught:
        check(model, make_task(), where="model.onnx")
    message = str(caught.value)
    assert "input 'days_since'" in message
    assert "opset 17, expected 18" in message
    assert "com.microsoft" in message


def test_a_broken_graph_is_refused(compressed, make_task, tmp_path):
    model = read_onnx(compressed / "fp32.onnx")
    del model.graph.node[3]
    with pytest.raises(InvalidInputError, match="Export the model again"):
        write_model(model, make_task(), tmp_path / "model.onnx")


def test_missing_and_corrupt_files_are_named(make_task, tmp_path):
    with pytest.raises(NotFoundError, match="Compress the model first"):
        finish(tmp_path / "absent.onnx", make_task(), tmp_path)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\xff\xff no model")
    with pytest.raises(InvalidInputError, match="not an ONNX file"):
        finish(broken, make_task(), tmp_path)
