"""Which values a contract allows of a tensor, and which of them is nearest to another one.

Belongs here: bounds, categories, clipping: what the predictor does to a value before the model has
it, and whoever executes the model again must do as well. Not here: what is refused or counted.
"""

from __future__ import annotations

import math

import numpy as np

from davy.packaging.contract import TensorSpec
from davy.protocol.tensors import Array


def bounds(spec: TensorSpec) -> tuple[float, float]:
    """Return the closed interval of allowed numbers; an open end is infinite."""
    if spec.range is None:
        return -math.inf, math.inf
    low = -math.inf if spec.range.low is None else spec.range.low
    high = math.inf if spec.range.high is None else spec.range.high
    return low, high


def categories(spec: TensorSpec) -> Array:
    """Return the allowed values, sorted where they are numbers."""
    values = spec.categories or []
    if spec.datatype == "BYTES":
        return np.array([str(value).encode() for value in values], dtype=object)
    return np.sort(np.array(values))


def unknown(data: Array, known: Array) -> Array:
    """Return which numbers are none of the categories; a missing one is another rule's."""
    bad: Array = ~np.isin(data, known)
    return bad & ~np.isnan(data) if data.dtype.kind == "f" else bad


def within(data: Array, low: float, high: float) -> Array:
    """Return the numbers, each moved to the nearest one of the interval."""
    moved: Array = np.clip(data, low, high).astype(data.dtype)
    return moved


def nearest(data: Array, known: Array) -> Array:
    """Return the numbers, each moved to the nearest of the sorted categories."""
    right = np.clip(np.searchsorted(known, data), 0, len(known) - 1)
    left = np.clip(right - 1, 0, len(known) - 1)
    nearer = np.where(np.abs(data - known[left]) <= np.abs(known[right] - data), left, right)
    moved: Array = known[nearer].astype(data.dtype)
    return np.where(np.isnan(data), data, moved) if data.dtype.kind == "f" else moved


def clipped(spec: TensorSpec, data: Array) -> Array:
    """Return a tensor's values as the model has them: moved where the contract says ``clip``.

    Examples
    --------
    >>> spec = TensorSpec(name="visits", datatype="FP32", range={"high": 10}, policy="clip")
    >>> clipped(spec, np.array([3, 12], np.float32))
    array([ 3., 10.], dtype=float32)
    """
    if spec.policy != "clip" or data.dtype == object:
        return data
    low, high = bounds(spec)
    if ((data < low) | (data > high)).any():
        data = within(data, low, high)
    if spec.categories is None:
        return data
    known = categories(spec)
    return nearest(data, known) if unknown(data, known).any() else data
