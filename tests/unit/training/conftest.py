from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location(
    "synthetic_features", Path(__file__).with_name("synthetic_features.py")
)
synthetic = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(synthetic)


@pytest.fixture(scope="session")
def features(tmp_path_factory):
    """A folder of synthetic feature files, the same for every test of a process."""
    return synthetic.write_features(tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="session")
def make_task():
    """The synthetic task, with overrides."""
    return synthetic.synthetic_task


@pytest.fixture(scope="session")
def trained(features, make_task, tmp_path_factory):
    """A folder with the trained synthetic model."""
    from davy.training.train import train

    out = tmp_path_factory.mktemp("model")
    train(make_task(), features, out)
    return out


@pytest.fixture(scope="session")
def price_model(make_task, tmp_path_factory):
    """A stand-in model whose score is the price."""
    import onnx
    from onnx import TensorProto, helper

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
