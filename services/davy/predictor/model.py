"""The model of a package, verified and ready to execute.

Belongs here: loading, the runtime's session, warm-up, execution.
Not here: what inputs the contract allows (`davy.predictor.validation`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from davy.core.errors import IntegrityError, PermanentError
from davy.packaging.contract import Contract, TensorSpec
from davy.packaging.package import Package, read_package
from davy.protocol.tensors import DTYPES, Array, Tensor

MODEL_FILE = "model.onnx"
WARM_UP_RUNS = 5

_RUNTIME_TYPES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float",
    "FP64": "double",
    "BYTES": "string",
}


@dataclass(frozen=True, slots=True)
class Model:
    """One verified package with its session; `run` may be called from any thread."""

    package: Package
    session: Any

    @property
    def contract(self) -> Contract:
        """What the model takes and gives."""
        return self.package.contract

    @property
    def identity(self) -> str:
        """The package's identity."""
        return self.package.identity

    def run(self, feed: Mapping[str, Array], outputs: tuple[str, ...]) -> tuple[Tensor, ...]:
        """Execute the model.

        Parameters
        ----------
        feed : mapping of str to array
            Every input of the contract; BYTES as arrays of `bytes`.
        outputs : tuple of str
            Names of the outputs to compute.

        Raises
        ------
        PermanentError
            The model cannot execute this input, though the contract lets it through.
        """
        ready = {
            name: _to_text(array) if array.dtype == object else array
            for name, array in feed.items()
        }
        try:
            arrays = self.session.run(list(outputs), ready)
        except Exception as error:
            raise PermanentError(
                "the model could not execute an input that its contract lets through",
                where=f"model '{self.contract.name}' {self.contract.version}",
            ) from error
        specs = {spec.name: spec for spec in self.contract.outputs}
        return tuple(
            _output(specs[name], array) for name, array in zip(outputs, arrays, strict=True)
        )


def load_model(folder: Path, *, public_key: Path | None, threads: int) -> Model:
    """Verify a package, open its model and run that a few times.

    Raises
    ------
    NotFoundError, IntegrityError, InvalidInputError
        As `davy.packaging.package.read_package` does.
    IntegrityError
        The model's inputs or outputs are not those of its contract.
    PermanentError
        The runtime cannot open or execute the model.
    """
    package = read_package(folder, public_key=public_key)
    session = _open(package.content(MODEL_FILE), threads, where=str(folder / MODEL_FILE))
    _compare(session.get_inputs(), package.contract.inputs, f"{folder}: input")
    _compare(session.get_outputs(), package.contract.outputs, f"{folder}: output")
    model = Model(package, session)
    feed = {spec.name: _example(spec) for spec in package.contract.inputs}
    names = tuple(spec.name for spec in package.contract.outputs)
    for _ in range(WARM_UP_RUNS):
        model.run(feed, names)
    return model


def _open(content: bytes, threads: int, *, where: str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin while they wait take the CPU share of the server beside them.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # The server logs failures itself, once and with the request id.
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise PermanentError(f"the runtime cannot open it: {error}", where=where) from error


def _compare(found: list[Any], specs: list[TensorSpec], where: str) -> None:
    types = {item.name: item.type for item in found}
    for spec in specs:
        expected = f"tensor({_RUNTIME_TYPES[spec.datatype]})"
        if types.pop(spec.name, None) != expected:
            raise IntegrityError(
                f"the contract says {expected}, which the model does not have",
                where=f"{where} '{spec.name}'",
            )
    if types:
        raise IntegrityError("not in the contract", where=f"{where} '{sorted(types)[0]}'")


def _example(spec: TensorSpec) -> Array:
    """Return one allowed row: the lowest category or value nearest to zero."""
    shape = tuple(1 if dimension < 0 else dimension for dimension in spec.shape)
    if spec.datatype == "BYTES":
        text = str(spec.categories[0]) if spec.categories else ""
        array = np.empty(shape, dtype=object)
        array.fill(text.encode())
        return array
    value = 0.0
    if spec.categories:
        value = float(spec.categories[0])
    elif spec.range is not None:
        low = -np.inf if spec.range.low is None else spec.range.low
        high = np.inf if spec.range.high is None else spec.range.high
        value = min(max(value, low), high)
    return np.full(shape, value, dtype=DTYPES[spec.datatype])


def _to_text(array: Array) -> Array:
    text = np.empty(array.shape, dtype=object)
    text.ravel()[:] = [value.decode() for value in array.ravel()]
    return text


def _output(spec: TensorSpec, array: Array) -> Tensor:
    if spec.datatype == "BYTES":
        data = np.empty(array.shape, dtype=object)
        data.ravel()[:] = [str(value).encode() for value in array.ravel()]
        array = data
    return Tensor(spec.name, spec.datatype, array.shape, array)
