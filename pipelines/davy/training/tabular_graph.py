"""ONNX graphs over a table's columns: one named input a feature, all families alike.

Belongs here: how columns become a matrix inside the graph, dense layers, outputs.
Not here: fitting (`davy.training.tabular_fit`).

Everything that serving needs is in the graph: missing values, unknown codes, scales. So training
reads its matrix from the same graph, and cannot prepare rows in another way than serving does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from davy.data.table_task import TableTask

OPSET = 18
IR_VERSION = 8
TREES_DOMAIN, TREES_OPSET = "ai.onnx.ml", 3
MATRIX = "matrix"
# Standard deviations at which a number stops to pull: one typing error must not decide.
FAR = 10.0

Floats = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Scale:
    """Mean and standard deviation of each number over the training rows that have it."""

    mean: Mapping[str, float]
    spread: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Dense:
    """Layers ``x W + b`` with ReLU between them; ``center`` and ``spread`` unscale the outcome."""

    layers: Sequence[tuple[Floats, Floats]]
    center: float = 0.0
    spread: float = 1.0


@dataclass(frozen=True, slots=True)
class Trees:
    """Regression trees whose leaves are summed; ``center`` and ``spread`` unscale the outcome.

    ``nodes``: tree, node, column, threshold, mode, node where the column is at most the threshold,
    node where it is above. ``leaves``: tree, node, output, weight.
    """

    nodes: Sequence[tuple[Any, ...]]
    leaves: Sequence[tuple[Any, ...]]
    outputs: int
    center: float = 0.0
    spread: float = 1.0


@dataclass(slots=True)
class _Graph:
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def constant(self, name: str, values: Any, dtype: Any = np.float32) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output


def matrix_model(task: TableTask, scale: Scale) -> Any:
    """Return a model whose output is the matrix that a family is fitted to."""
    graph = _Graph()
    _columns(graph, task, scale)
    output = helper.make_tensor_value_info(MATRIX, TensorProto.FLOAT, ["rows", None])
    return _model(graph, task, [output])


def fitted_model(task: TableTask, scale: Scale, fitted: Dense | Trees) -> Any:
    """Return the model of what a family fitted."""
    build = trees_model if isinstance(fitted, Trees) else dense_model
    return build(task, scale, fitted)  # type: ignore[arg-type]


def trees_model(task: TableTask, scale: Scale, trees: Trees) -> Any:
    """Return the model of boosted trees."""
    graph = _Graph()
    matrix = _columns(graph, task, scale)
    tree, node, column, threshold, mode, low, high = zip(*trees.nodes, strict=True)
    leaf_tree, leaf_node, output, weight = zip(*trees.leaves, strict=True)
    value = graph.node(
        "TreeEnsembleRegressor", [matrix], "sums", domain=TREES_DOMAIN,
        nodes_treeids=tree, nodes_nodeids=node, nodes_featureids=column,
        nodes_values=threshold, nodes_modes=mode,
        nodes_truenodeids=low, nodes_falsenodeids=high,
        target_treeids=leaf_tree, target_nodeids=leaf_node, target_ids=output,
        target_weights=weight, n_targets=trees.outputs,
    )  # fmt: skip
    return _model(graph, task, _finish(graph, task, _unscaled(graph, task, value, trees)))


def dense_model(task: TableTask, scale: Scale, dense: Dense) -> Any:
    """Return the model of a linear family or of an MLP."""
    graph = _Graph()
    value = _columns(graph, task, scale)
    for index, (weight, bias) in enumerate(dense.layers):
        names = [graph.constant(f"w{index}", weight), graph.constant(f"b{index}", bias)]
        value = graph.node("Gemm", [value, *names], f"layer{index}")
        if index < len(dense.layers) - 1:
            value = graph.node("Relu", [value], f"relu{index}")
    return _model(graph, task, _finish(graph, task, _unscaled(graph, task, value, dense)))


def _unscaled(graph: _Graph, task: TableTask, value: str, fitted: Dense | Trees) -> str:
    if task.form != "regression":
        return value
    value = graph.node("Mul", [value, graph.constant("out_spread", fitted.spread)], "unscaled")
    return graph.node("Add", [value, graph.constant("out_center", fitted.center)], "centered")


def _columns(graph: _Graph, task: TableTask, scale: Scale) -> str:
    axis = graph.constant("axis", [1], np.int64)
    parts = []
    for feature in task.features:
        name = feature.name
        column = graph.node("Unsqueeze", [name, axis], f"{name}.column")
        if feature.type == "category":
            # An unknown code equals none of these: its row of zeros is the code 0's.
            codes = graph.constant(f"{name}.codes", [range(1, len(feature.categories) + 1)], int)
            same = graph.node("Equal", [column, codes], f"{name}.same")
            parts.append(graph.node("Cast", [same], f"{name}.one_hot", to=TensorProto.FLOAT))
            continue
        gone = graph.node("IsNaN", [column], f"{name}.gone")
        if feature.transform == "log":
            size = graph.node("Abs", [column], f"{name}.size")
            above = graph.node("Add", [size, graph.constant(f"{name}.one", 1.0)], f"{name}.above")
            log = graph.node("Log", [above], f"{name}.log")
            sign = graph.node("Sign", [column], f"{name}.sign")
            column = graph.node("Mul", [sign, log], f"{name}.logged")
        mean = graph.constant(f"{name}.mean", scale.mean[name])
        filled = graph.node("Where", [gone, mean, column], f"{name}.filled")
        moved = graph.node("Sub", [filled, mean], f"{name}.moved")
        spread = graph.constant(f"{name}.spread", scale.spread[name])
        scaled = graph.node("Div", [moved, spread], f"{name}.scaled")
        bounds = [graph.constant(f"{name}.low", -FAR), graph.constant(f"{name}.high", FAR)]
        parts.append(graph.node("Clip", [scaled, *bounds], f"{name}.near"))
        parts.append(graph.node("Cast", [gone], f"{name}.missing", to=TensorProto.FLOAT))
    return graph.node("Concat", parts, MATRIX, axis=1)


def _finish(graph: _Graph, task: TableTask, value: str) -> list[Any]:
    """Turn sums into the outputs that the contract names."""
    rows = graph.constant("rows_shape", [-1], np.int64)
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["rows"])
    if task.form == "regression":
        graph.node("Reshape", [value, rows], "score")
        return [score]
    if task.form == "binary":
        chance = graph.node("Sigmoid", [value], "chance")
        graph.node("Reshape", [chance, rows], "score")
        return [score]
    axis = graph.constant("class_axis", [1], np.int64)
    graph.node("Softmax", [value], "probabilities", axis=1)
    graph.node("ReduceMax", ["probabilities", axis], "score", keepdims=0)
    graph.node("ArgMax", ["probabilities"], "predicted", axis=1, keepdims=0)
    return [
        score,
        helper.make_tensor_value_info("predicted", TensorProto.INT64, ["rows"]),
        helper.make_tensor_value_info(
            "probabilities", TensorProto.FLOAT, ["rows", len(task.label.classes)]
        ),
    ]


def _model(graph: _Graph, task: TableTask, outputs: list[Any]) -> Any:
    kinds = {"number": TensorProto.FLOAT, "category": TensorProto.INT64}
    inputs = [
        helper.make_tensor_value_info(feature.name, kinds[feature.type], ["rows"])
        for feature in task.features
    ]
    opsets = [helper.make_opsetid("", OPSET)]
    if any(node.domain == TREES_DOMAIN for node in graph.nodes):
        opsets.append(helper.make_opsetid(TREES_DOMAIN, TREES_OPSET))
    whole = helper.make_graph(graph.nodes, task.name, inputs, outputs, graph.constants)
    model = helper.make_model(
        whole, producer_name="davy", opset_imports=opsets, ir_version=IR_VERSION
    )
    onnx.checker.check_model(model)
    return model
