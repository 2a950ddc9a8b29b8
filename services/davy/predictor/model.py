"""The model of a package, verified and ready to execute.

Belongs here: loading, warm-up, execution.
Not here: the runtime's settings (`davy.predictor.session`), what inputs the contract allows
(`davy.predictor.validation`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from davy.core.errors import IntegrityError, PermanentError
from davy.core.logging import get_logger
from davy.packaging.contract import Contract, TensorSpec
from davy.packaging.package import MODEL, Package, read_package
from davy.predictor.admission import Speed
from davy.predictor.probe import ROWS as PROBE_ROWS
from davy.predictor.probe import examples, why_not_together
from davy.predictor.session import Opened, SessionSettings, open_session
from davy.protocol.tensors import DTYPES, Array, Tensor

WARM_UP_RUNS = 5
DEFAULT_SETTINGS = SessionSettings()

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
    """One verified package with its session; `run` may be called from any thread.

    ``speed`` is what its executions took, ``apart`` why requests must not be merged (empty: they
    may).
    """

    package: Package
    opened: Opened
    speed: Speed = field(default_factory=Speed)
    apart: str = "not tried"
    _outputs: Mapping[str, TensorSpec] = field(init=False)
    _has_text: bool = field(init=False)

    def __post_init__(self) -> None:
        """Look up once what every execution asks for."""
        contract = self.package.contract
        object.__setattr__(self, "_outputs", {spec.name: spec for spec in contract.outputs})
        has_text = any(spec.datatype == "BYTES" for spec in contract.inputs)
        object.__setattr__(self, "_has_text", has_text)

    @property
    def session(self) -> Any:
        """The runtime's session."""
        return self.opened.session

    @property
    def together(self) -> bool:
        """Whether rows of several requests may be executed at once."""
        return not self.apart

    @property
    def contract(self) -> Contract:
        """What the model takes and gives."""
        return self.package.contract

    @property
    def identity(self) -> str:
        """The package's identity."""
        return self.package.identity

    def describe(self) -> dict[str, Any]:
        """Return how the model is executed, for the log and its metadata."""
        apart = {"not_batched_because": self.apart} if self.apart else {}
        return {**self.opened.describe(), "batched": self.together, **apart}

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
        ready = feed
        if self._has_text:
            ready = {
                name: _to_text(array) if array.dtype == object else array
                for name, array in feed.items()
            }
        try:
            arrays = self.opened.session.run(list(outputs), ready)
        except Exception as error:
            raise PermanentError(
                "the model could not execute an input that its contract lets through",
                where=f"model '{self.contract.name}' {self.contract.version}",
            ) from error
        specs = self._outputs
        return tuple(
            _output(specs[name], array) for name, array in zip(outputs, arrays, strict=True)
        )


def load_model(
    folder: Path, *, public_key: Path | None, settings: SessionSettings = DEFAULT_SETTINGS
) -> Model:
    """Verify a package, open its model, run that a few times and see whether it can be batched.

    Raises
    ------
    NotFoundError, IntegrityError, InvalidInputError
        As `davy.packaging.package.read_package` does.
    IntegrityError
        The model's inputs or outputs are not those of its contract.
    ConfigurationError, PermanentError
        The runtime cannot open or execute the model as asked.
    """
    package = read_package(folder, public_key=public_key)
    contract = package.contract
    opened = open_session(package.content(MODEL), settings, where=str(folder / MODEL))
    _compare(opened.session.get_inputs(), contract.inputs, f"{folder}: input")
    _compare(opened.session.get_outputs(), contract.outputs, f"{folder}: output")
    model = Model(package, opened)
    one = {spec.name: _example(spec) for spec in contract.inputs}
    _warm_up(model, one, 1)
    apart = why_not_together(contract, model.run)
    if not apart:
        _warm_up(model, examples(contract, PROBE_ROWS), PROBE_ROWS)
    model = replace(model, apart=apart)
    get_logger("predictor").info(
        "model loaded", model=contract.name, version=contract.version, **model.describe()
    )
    return model


def _warm_up(model: Model, feed: Mapping[str, Array], rows: int) -> None:
    """Run the model until it has what it needs, and learn from the last run what one takes."""
    names = tuple(spec.name for spec in model.contract.outputs)
    seconds = 0.0
    for _ in range(WARM_UP_RUNS):
        started = time.perf_counter()
        model.run(feed, names)
        seconds = time.perf_counter() - started
    model.speed.observe(rows, seconds)


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
