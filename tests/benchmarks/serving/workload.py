"""What every server of the serving benchmark is asked: one model, the same rows, ready messages.

Belongs here: the model and its package, HTTP messages, the cases. Not here: servers, sending.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper
from tests.fixtures.tiny_package import contract

from davy.packaging.package import Package, write_package
from davy.protocol.tensors import Array, tensor
from davy.protocol.v2 import InferRequest, encode_request

NAME = "net"
FEATURES = 50
LAYERS = (FEATURES, 128, 64, 1)
LIMIT = 10.0
ROWS = (1, 10, 100, 1000)
CONNECTIONS = (1, 8, 64)

Encoding = Literal["json", "binary"]


@dataclass(frozen=True, slots=True)
class Case:
    """Rows of a request, how they are written, connections; 0 rows is the unequal mix."""

    rows: int
    encoding: Encoding
    connections: int

    def __str__(self) -> str:
        """Return how tables name it."""
        rows = "mix" if self.rows == 0 else f"{self.rows:,}"
        return f"{rows} · {self.encoding} · {self.connections}"


MAIN = Case(1, "json", 8)
# Of nine requests eight are small and one is five hundred times as large.
MIX = (1, 1, 1, 500, 1, 1, 20, 1, 1)


def cases() -> list[Case]:
    """Return every case, the headline first."""
    rows = (*ROWS, 0)
    grid = [Case(r, e, c) for r in rows for e in ("json", "binary") for c in CONNECTIONS]  # type: ignore[arg-type]
    return [MAIN, *(case for case in grid if case != MAIN and (case.rows or case.connections == 8))]


def write_model(path: Path) -> Path:
    """Write the network: 50-128-64-1, ReLU between, a sigmoid at the end."""
    rng = np.random.default_rng(7)
    nodes = []
    constants = []
    last = "features"
    for layer, (before, after) in enumerate(itertools.pairwise(LAYERS)):
        weights = (rng.normal(size=(before, after)) / np.sqrt(before)).astype(np.float32)
        constants += [
            numpy_helper.from_array(weights, f"w{layer}"),
            numpy_helper.from_array(np.zeros(after, np.float32), f"b{layer}"),
        ]
        nodes.append(helper.make_node("Gemm", [last, f"w{layer}", f"b{layer}"], [f"z{layer}"]))
        last = f"a{layer}"
        kind = "Sigmoid" if layer == len(LAYERS) - 2 else "Relu"
        nodes.append(helper.make_node(kind, [f"z{layer}"], [last]))
    nodes.append(helper.make_node("Squeeze", [last, "axis"], ["score"]))
    constants.append(numpy_helper.from_array(np.array([1], np.int64), "axis"))
    graph = helper.make_graph(
        nodes,
        NAME,
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["rows", FEATURES])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["rows"])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def write_net_package(folder: Path) -> Package:
    """Write the network's package, with a range that every value is held against."""
    folder.mkdir(parents=True, exist_ok=True)
    features = {
        "name": "features",
        "datatype": "FP32",
        "shape": [-1, FEATURES],
        "range": {"low": -LIMIT, "high": LIMIT},
        "policy": "clip",
        "missing": "reject",
    }
    fields = contract(name=NAME, task=NAME, inputs=[features])
    model = write_model(folder / "model.onnx")
    reference = folder / "reference.parquet"
    pq.write_table(pa.table({"features": list(make_rows(50))}), reference)
    files = {"model.onnx": model, "reference.parquet": reference}
    return write_package(folder / "store", fields, files, private_key=None)


def make_rows(rows: int) -> Array:
    """Return rows within the contract's range, the same each time."""
    rng = np.random.default_rng(rows)
    return np.clip(rng.normal(size=(rows, FEATURES)), -LIMIT, LIMIT).astype(np.float32)


def v2_message(path: str, rows: int, encoding: Encoding) -> bytes:
    """Return a whole HTTP request of the Open Inference Protocol."""
    binary = encoding == "binary"
    parameters = {"binary_data_output": True} if binary else {}
    request = InferRequest((tensor("features", make_rows(rows)),), parameters=parameters)
    encoded = encode_request(request, binary=binary)
    headers = {"content-type": "application/octet-stream" if binary else "application/json"}
    if encoded.header_length is not None:
        headers["inference-header-content-length"] = str(encoded.header_length)
    return message(path, encoded.body, headers)


def rows_message(path: str, rows: int) -> bytes:
    """Return a whole HTTP request for a server that takes ``{"rows": [[…]]}``."""
    body = orjson.dumps({"rows": make_rows(rows)}, option=orjson.OPT_SERIALIZE_NUMPY)
    return message(path, body, {"content-type": "application/json"})


def message(path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """Return a POST as it goes over the wire."""
    lines = [
        f"POST {path} HTTP/1.1",
        "host: server",
        *(f"{name}: {value}" for name, value in headers.items()),
        f"content-length: {len(body)}",
    ]
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode() + body
