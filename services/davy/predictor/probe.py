"""Whether a model gives a row the same answer alone and among others.

Belongs here: rows that the contract allows, the comparison. Not here: merging requests.

A model that scales by what is in its batch (dynamic quantization does) would answer a shopper
differently for who else was asking: its requests are never merged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from davy.packaging.contract import Contract, TensorSpec
from davy.protocol.tensors import DTYPES, Array, Tensor

ROWS = 64
Run = Callable[[Mapping[str, Array], tuple[str, ...]], tuple[Tensor, ...]]


def why_not_together(contract: Contract, run: Run) -> str:
    """Return why requests of a model cannot be merged, empty when they can.

    Parameters
    ----------
    contract : Contract
        Its inputs, outputs and tolerance.
    run : callable
        Executes the model: inputs by name and names of outputs to tensors.
    """
    for spec in (*contract.inputs, *contract.outputs):
        if not spec.shape or spec.shape[0] != -1:
            return f"'{spec.name}' has no dimension of rows"
    feed = examples(contract, ROWS)
    names = tuple(spec.name for spec in contract.outputs)
    try:
        whole = run(feed, names)
        for start, end in ((0, 1), (1, 4), (4, ROWS)):
            part = run({name: array[start:end] for name, array in feed.items()}, names)
            for merged, alone in zip(whole, part, strict=True):
                problem = _differs(merged, alone, start, end, contract.tolerance)
                if problem:
                    return problem
    except Exception as error:
        return f"{error}: {error.__cause__}" if error.__cause__ else str(error)
    return ""


def examples(contract: Contract, rows: int) -> dict[str, Array]:
    """Return rows that the contract allows, the same ones each time."""
    rng = np.random.default_rng(0)
    return {spec.name: _example(spec, rows, rng) for spec in contract.inputs}


def _example(spec: TensorSpec, rows: int, rng: np.random.Generator) -> Array:
    shape = (rows, *(1 if dimension < 0 else dimension for dimension in spec.shape[1:]))
    if spec.datatype == "BYTES":
        words = [str(word).encode() for word in spec.categories or [""]]
        text = np.empty(shape, dtype=object)
        text.ravel()[:] = [words[i] for i in rng.integers(0, len(words), text.size)]
        return text
    dtype = DTYPES[spec.datatype]
    if spec.categories:
        return np.asarray(rng.choice(np.array(spec.categories), shape), dtype)
    low, high = _bounds(spec)
    if dtype.kind == "f":
        return np.asarray(rng.uniform(low, high, shape), dtype)
    return np.asarray(rng.integers(int(np.ceil(low)), int(np.floor(high)) + 1, shape), dtype)


def _bounds(spec: TensorSpec) -> tuple[float, float]:
    low = None if spec.range is None else spec.range.low
    high = None if spec.range is None else spec.range.high
    if low is None and high is None:
        return 0.0, 1.0
    if low is None:
        return float(high or 0.0) - 1.0, float(high or 0.0)
    return low, low + 1.0 if high is None else high


def _differs(merged: Tensor, alone: Tensor, start: int, end: int, tolerance: float) -> str:
    where = f"output '{merged.name}'"
    if merged.shape[:1] != (ROWS,):
        return f"{where} has shape {list(merged.shape)} for {ROWS} rows"
    one, other = merged.data[start:end], alone.data
    if one.shape != other.shape:
        return f"{where} has another shape for fewer rows"
    if one.dtype.kind != "f":
        return "" if np.array_equal(one, other) else f"{where} changes with the rows beside it"
    scale = np.maximum(1.0, np.abs(other))
    with np.errstate(invalid="ignore"):
        # Of an infinite value the scale is infinite too: nothing but itself is close to it.
        close = np.isfinite(other) & (np.abs(one - other) <= tolerance * scale) | (one == other)
    if (close | (np.isnan(one) & np.isnan(other))).all():
        return ""
    return f"{where} moves by more than {tolerance:g} with the rows beside it"
