"""From a torch network to an ONNX file that keeps its contract, and the checks that prove it.

Belongs here: the export, what an exported file must look like, agreement between two of them.
Not here: making a model smaller.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx

from davy.core.errors import InvalidInputError, NotFoundError
from davy.core.files import write_atomic
from davy.data.task import Task
from davy.packaging.package import MODEL
from davy.training.scoring import OUTPUT, Inputs, open_session

if TYPE_CHECKING:
    from davy.training.network import RankingNetwork

# Every onnxruntime that `pyproject.toml` allows reads these, and most older ones do.
OPSET = 18
IR_VERSION = 8
# Scores are probabilities in float32: the order of sums differs between torch and onnxruntime.
TOLERANCE = 1e-4
PARITY_ROWS = 257


def export(network: RankingNetwork, task: Task, path: Path) -> float:
    """Write the network as ONNX with one named input per feature.

    Parameters
    ----------
    network : RankingNetwork
        In the task's feature order.
    task : Task
        Names and types of the inputs.
    path : Path
        File to write.

    Returns
    -------
    float
        Largest difference between torch's scores and onnxruntime's on seeded rows.

    Raises
    ------
    InvalidInputError
        The exported file does not keep the contract, or its scores differ from torch's.
    """
    # Only here: finishing and opening an ONNX file do without torch and its seconds of import.
    import torch

    from davy.training.network import one_thread

    inputs = sample_inputs(task, PARITY_ROWS)
    tensors = tuple(torch.from_numpy(inputs[feature.name]) for feature in task.features)
    rows = torch.export.Dim("rows", min=1)
    network.eval()
    with one_thread(), _quiet():
        program = torch.onnx.export(
            network,
            tensors,
            dynamo=True,
            verbose=False,
            input_names=[feature.name for feature in task.features],
            output_names=[OUTPUT],
            dynamic_shapes=(tuple({0: rows} for _ in tensors),),
            opset_version=OPSET,
        )
        with torch.inference_mode():
            expected = network(*tensors).numpy()
    if program is None:
        raise InvalidInputError("torch exported nothing", where=str(path))
    write_model(program.model_proto, task, path)
    difference = float(np.abs(open_session(path).run([OUTPUT], dict(inputs))[0] - expected).max())
    if not difference <= TOLERANCE:
        raise InvalidInputError(
            f"scores differ from torch's by {difference:.2g}, more than {TOLERANCE:g}",
            where=str(path),
        )
    return difference


def finish(chosen: Path, task: Task, out: Path) -> Path:
    """Write the chosen candidate as the package's ``model.onnx``.

    Parameters
    ----------
    chosen : Path
        The candidate's file.
    task : Task
        What its inputs must be.
    out : Path
        Folder to write to.

    Returns
    -------
    Path
        The written file, which gives the same scores as its candidate.

    Raises
    ------
    NotFoundError, InvalidInputError
        There is no such candidate, it does not keep the contract, or the two differ.
    """
    path = out / MODEL
    write_model(read_onnx(chosen), task, path)
    inputs = dict(sample_inputs(task, PARITY_ROWS))
    (before,), (after,) = (open_session(file).run([OUTPUT], inputs) for file in (chosen, path))
    if not np.array_equal(before, after):
        raise InvalidInputError(f"scores differ from those of {chosen}", where=str(path))
    return path


def write_model(model: Any, task: Task, path: Path) -> None:
    """Pin the versions, drop what only the exporter reads, check, and write.

    Raises
    ------
    InvalidInputError
        As in `check`.
    """
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version, model.doc_string = "davy", "", ""
    del model.metadata_props[:]
    graph = model.graph
    graph.doc_string = ""
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "rows"
    check(model, task, where=str(path))
    write_atomic(path, model.SerializeToString(deterministic=True))


def check(model: Any, task: Task, *, where: str) -> None:
    """Compare a model's inputs, output and versions with what the task's contract promises.

    Raises
    ------
    InvalidInputError
        Names everything that differs.
    """
    wanted = {
        feature.name: (_ELEMENTS["INT64" if feature.type == "category" else "FP32"], 1)
        for feature in task.features
    }
    problems = [
        *_different("input", model.graph.input, wanted),
        *_different("output", model.graph.output, {OUTPUT: (_ELEMENTS["FP32"], 1)}),
    ]
    opsets = {item.domain: item.version for item in model.opset_import}
    if opsets.get("", 0) != OPSET:
        problems.append(f"opset {opsets.get('', 0)}, expected {OPSET}")
    foreign = sorted(set(opsets) - {""})
    if foreign:
        problems.append(f"operators outside ONNX itself: {', '.join(foreign)}")
    if not problems:
        try:
            onnx.checker.check_model(model)
        except onnx.checker.ValidationError as error:
            problems.append(" ".join(str(error).split())[:300])
    if problems:
        raise InvalidInputError("; ".join(problems), where=where, fix="Export the model again")


_ELEMENTS = {"INT64": onnx.TensorProto.INT64, "FP32": onnx.TensorProto.FLOAT}


def _different(kind: str, values: Any, wanted: Mapping[str, tuple[int, int]]) -> Iterator[str]:
    found = {
        value.name: (value.type.tensor_type.elem_type, len(value.type.tensor_type.shape.dim))
        for value in values
    }
    if list(found) != list(wanted):
        yield f"{kind}s are {', '.join(found)}, expected {', '.join(wanted)}"
        return
    for name, (element, rank) in wanted.items():
        if found[name] != (element, rank):
            yield f"{kind} '{name}' has element type and rank {found[name]}, not {element, rank}"


def read_onnx(path: Path) -> Any:
    """Read an ONNX file; a missing or broken one is an error that says so."""
    if not path.is_file():
        raise NotFoundError("no such file", where=str(path), fix="Compress the model first")
    try:
        return onnx.load_model_from_string(path.read_bytes())
    except Exception as error:  # protobuf's class for this depends on its implementation
        raise InvalidInputError(f"not an ONNX file: {error}", where=str(path)) from None


def sample_inputs(task: Task, rows: int, *, seed: int = 0) -> Inputs:
    """Return seeded rows over the whole of each feature's range, with missing values."""
    rng = np.random.default_rng(seed)
    inputs: dict[str, npt.NDArray[Any]] = {}
    for feature in task.features:
        low, high = (feature.range.low, feature.range.high) if feature.range else (-100.0, 100.0)
        if feature.type == "category":
            inputs[feature.name] = rng.integers(int(low), int(high) + 1, size=rows)
        else:
            values = rng.uniform(low, high, size=rows).astype(np.float32)
            values[rng.random(rows) < 0.1] = np.nan
            inputs[feature.name] = values
    return inputs


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes on torchvision and axis names out of the pipeline's log."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
