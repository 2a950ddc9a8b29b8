"""Whether an answer's outputs are what the contract says.

Belongs here: shape, finite numbers, ranges, categories of one answer's outputs.
Not here: inputs (`davy.predictor.validation`), counting (`davy.predictor.metrics`).

A broken answer is given all the same: what the model said is for the client to see, and the gate
judges the version by how many there are. So an answer breaks one rule at most, the first: the gate
compares broken answers with answers.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Literal

import numpy as np

from davy.packaging.contract import Contract, TensorSpec
from davy.protocol.tensors import Array, Tensor

OutputRule = Literal["shape", "finite", "range", "category"]
# So many values are compared sooner one by one than as an array.
FEW = 16


class OutputPolicy:
    """The contract's outputs, compiled for checking answers.

    Parameters
    ----------
    contract : Contract
        Its outputs; its inputs say whether the number of rows is known; bounds may be passed by
        its ``tolerance``, as answers that are executed together may differ by.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> spec = TensorSpec(name="score", datatype="FP32")
    >>> contract = SimpleNamespace(inputs=[spec], outputs=[spec], tolerance=0.0)
    >>> policy = OutputPolicy(contract)
    >>> good, bad = np.array([0.5], np.float32), np.array([np.nan], np.float32)
    >>> policy.broken([Tensor("score", "FP32", (1,), good)], 1)
    >>> policy.broken([Tensor("score", "FP32", (1,), bad)], 1)
    ('score', 'finite')
    """

    def __init__(self, contract: Contract) -> None:
        counted = any(spec.shape and spec.shape[0] == -1 for spec in contract.inputs)
        self._checks = {
            spec.name: _Check(spec, contract.tolerance, rows_known=counted)
            for spec in contract.outputs
        }

    def broken(self, tensors: Sequence[Tensor], rows: int) -> tuple[str, OutputRule] | None:
        """Return the first output that breaks a rule and which, None when none does.

        Parameters
        ----------
        tensors : sequence of Tensor
            Outputs of the contract, in any order.
        rows : int
            Rows of the request.
        """
        for tensor in tensors:
            rule = self._checks[tensor.name].broken(tensor.data, rows)
            if rule is not None:
                return tensor.name, rule
        return None


def rules(spec: TensorSpec) -> tuple[OutputRule, ...]:
    """Return the rules that an output can break."""
    found: list[OutputRule] = ["shape"]
    if spec.datatype.startswith("FP"):
        found.append("finite")
    if spec.range is not None and spec.datatype not in ("BOOL", "BYTES"):
        found.append("range")
    if spec.categories is not None:
        found.append("category")
    return tuple(found)


class _Check:
    """One output's rules."""

    __slots__ = ("_by_row", "_compared", "_dimensions", "_fixed", "_high", "_known", "_low", "_nan")

    def __init__(self, spec: TensorSpec, tolerance: float, *, rows_known: bool) -> None:
        self._dimensions = len(spec.shape)
        self._by_row = rows_known and bool(spec.shape) and spec.shape[0] == -1
        self._fixed = [(place, size) for place, size in enumerate(spec.shape) if size != -1]
        self._compared = "finite" in rules(spec) or "range" in rules(spec)
        self._nan = spec.missing == "allow"
        self._low, self._high = _bounds(spec, tolerance)
        self._known: frozenset[object] | None = None
        if spec.categories is not None:
            text = spec.datatype == "BYTES"
            values = (str(value).encode() if text else value for value in spec.categories)
            self._known = frozenset(values)

    def broken(self, data: Array, rows: int) -> OutputRule | None:
        """Return the first rule that the values break."""
        shape = data.shape
        if (
            len(shape) != self._dimensions
            or (self._by_row and shape[0] != rows)
            or (self._fixed and any(shape[place] != size for place, size in self._fixed))
        ):
            return "shape"
        if self._compared and not self._within(data):
            rule = self._look(data)
            if rule is not None:
                return rule
        if self._known is not None and not self._known.issuperset(_distinct(data)):
            return "category"
        return None

    def _within(self, data: Array) -> bool:
        # Nothing compares with NaN, which minimum and maximum pass on.
        if data.size > FEW:
            least = float(np.minimum.reduce(data, axis=None))
            most = float(np.maximum.reduce(data, axis=None))
            return self._low <= least and most <= self._high
        low, high = self._low, self._high
        # A loop, because a generator takes longer than the comparisons.
        for value in data.ravel().tolist():  # noqa: SIM110
            if not low <= value <= high:
                return False
        return True

    def _look(self, data: Array) -> OutputRule | None:
        if data.dtype.kind == "f":
            missing = np.isnan(data)
            if np.isinf(data).any() or (missing.any() and not self._nan):
                return "finite"
            data = data[~missing]
        out = (data < self._low) | (data > self._high)
        return "range" if out.any() else None


def _bounds(spec: TensorSpec, tolerance: float) -> tuple[float, float]:
    """Return between what the values lie; where nothing is said, any finite number does."""
    low = None if spec.range is None else spec.range.low
    high = None if spec.range is None else spec.range.high
    most = sys.float_info.max
    if not spec.datatype.startswith("FP"):
        tolerance = 0.0
    return (
        -most if low is None else low - tolerance * max(1.0, abs(low)),
        most if high is None else high + tolerance * max(1.0, abs(high)),
    )


def _distinct(data: Array) -> list[object]:
    # Of text, to sort costs more than to look every value up.
    values = data if data.dtype == object or data.size <= FEW else np.unique(data)
    found: list[object] = values.ravel().tolist()
    return found
