"""Whether an answer that was served is the one that the package's model gives.

Belongs here: what can be replayed of a logged request, executing it, comparing two answers.
Not here: which requests, queues, counting (`davy.detector.replay`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from davy.core.errors import MissingDependencyError, PermanentError
from davy.packaging.allowed import clipped
from davy.packaging.contract import Contract
from davy.packaging.package import MODEL, Package
from davy.protocol.tensors import Array, Tensor
from davy.protocol.v2 import InferRequest

Skip = Literal[
    "queue_full",
    "malformed",
    "no_version",
    "unknown_version",
    "package_untrusted",
    "package_unreadable",
    "other_version",
    "other_inputs",
    "pseudonymised",
    "not_executed",
    "too_many_services",
]
"""Why a request was not replayed."""

# What the payload log puts in the place of a text: an HMAC-SHA256 in hexadecimal.
_PSEUDONYM = re.compile(rb"[0-9a-f]{64}")


class NotReplayedError(PermanentError):
    """A request that cannot be executed again; ``reason`` is what it is counted as."""

    def __init__(self, reason: Skip, what: str) -> None:
        super().__init__(what)
        self.reason: Skip = reason


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """The model of a package as it is in the package, open to be executed by one thread."""

    contract: Contract
    session: Any

    def answer(self, request: InferRequest) -> tuple[Tensor, ...]:
        """Return the outputs that the request asks for, as the package's model gives them.

        Raises
        ------
        NotReplayedError
            The request is not as the model had it, or the model cannot execute it.
        """
        feed = _feed(self.contract, request)
        specs = {spec.name: spec for spec in self.contract.outputs}
        names = [item.name for item in request.outputs] or list(specs)
        if unknown := sorted(set(names) - set(specs)):
            raise NotReplayedError("not_executed", f"the model has no output '{unknown[0]}'")
        try:
            found = self.session.run(names, feed)
        except Exception as error:
            raise NotReplayedError("not_executed", f"cannot be executed: {error}") from error
        arrays = [np.asarray(array) for array in found]
        return tuple(
            Tensor(name, specs[name].datatype, array.shape, _bytes(array))
            for name, array in zip(names, arrays, strict=True)
        )


def check_runtime() -> None:
    """See that models can be executed here.

    Raises
    ------
    MissingDependencyError
        onnxruntime is not installed.
    """
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        raise MissingDependencyError(
            "requests are to be replayed, and onnxruntime is not installed",
            where="DAVY_DETECTOR_REPLAY_SHARE",
            fix="Install davylamp[replay], or set it to 0",
        ) from None


def open_packaged(package: Package) -> PackagedModel:
    """Open the model of a verified package, one thread to execute it.

    Raises
    ------
    IntegrityError
        The model changed since the package was verified.
    PermanentError
        The runtime cannot open it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            package.content(MODEL), options, providers=["CPUExecutionProvider"]
        )
    except PermanentError:
        raise
    except Exception as error:
        raise PermanentError(
            f"the runtime cannot open it: {error}", where=str(package.path / MODEL)
        ) from error
    return PackagedModel(package.contract, session)


def difference(served: Sequence[Tensor], again: Sequence[Tensor], tolerance: float) -> str:
    """Return in what two answers differ, empty when they are the same.

    Parameters
    ----------
    served, again : sequence of Tensor
        Outputs of both, in any order.
    tolerance : float
        How far a number may be from ``again``'s: relative to that, or absolute where that is
        below 1. What is no floating-point number must be equal.

    Examples
    --------
    >>> from davy.protocol.tensors import tensor
    >>> one, other = tensor("score", np.array([0.5])), tensor("score", np.array([0.6]))
    >>> difference([one], [other], 1e-5)
    "output 'score' is 0.5, not 0.6"
    """
    theirs = {item.name: item for item in served}
    ours = {item.name: item for item in again}
    if theirs.keys() != ours.keys():
        return f"the outputs are {', '.join(sorted(theirs))}, not {', '.join(sorted(ours))}"
    for name, tensor in ours.items():
        what = _tensor_difference(theirs[name], tensor, tolerance)
        if what:
            return f"output '{name}' {what}"
    return ""


def distance(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """Return how far two answers lie apart: the farthest number, relative or, below 1, absolute.

    Infinite where they do not have the same outputs, datatypes and shapes, where a number is
    missing in one alone, or where anything but a floating-point number is not equal.

    Examples
    --------
    >>> from davy.protocol.tensors import tensor
    >>> distance([tensor("x", np.array([0.5, 20.0]))], [tensor("x", np.array([0.25, 10.0]))])
    1.0
    """
    theirs, ours = ({item.name: item for item in side} for side in (one, other))
    if theirs.keys() != ours.keys():
        return math.inf
    return max((_tensor_distance(theirs[name], item) for name, item in ours.items()), default=0.0)


def pseudonymised(tensors: Sequence[Tensor]) -> str:
    """Return the name of the first text tensor that holds pseudonyms only; empty without one."""
    for item in tensors:
        if item.datatype == "BYTES" and item.data.size:
            values = item.data.ravel().tolist()
            if all(isinstance(value, bytes) and _PSEUDONYM.fullmatch(value) for value in values):
                return item.name
    return ""


def _feed(contract: Contract, request: InferRequest) -> Mapping[str, Array]:
    tensors = {item.name: item for item in request.inputs}
    if name := pseudonymised(request.inputs):
        raise NotReplayedError("pseudonymised", f"input '{name}' holds pseudonyms")
    feed: dict[str, Array] = {}
    for spec in contract.inputs:
        found = tensors.get(spec.name)
        if found is None or found.datatype != spec.datatype:
            raise NotReplayedError(
                "other_inputs", f"has no input '{spec.name}' of {spec.datatype}: the contract does"
            )
        data = clipped(spec, found.data)
        feed[spec.name] = _text(spec.name, data) if data.dtype == object else data
    return feed


def _text(name: str, data: Array) -> Array:
    text = np.empty(data.shape, dtype=object)
    try:
        text.ravel()[:] = [value.decode() for value in data.ravel()]
    except UnicodeDecodeError:
        raise NotReplayedError("not_executed", f"input '{name}' is not UTF-8 text") from None
    return text


def _bytes(array: Array) -> Array:
    if array.dtype.kind not in "OUS":
        return array
    data = np.empty(array.shape, dtype=object)
    data.ravel()[:] = [str(value).encode() for value in array.ravel()]
    return data


def _tensor_distance(one: Tensor, other: Tensor) -> float:
    if (one.datatype, one.shape) != (other.datatype, other.shape):
        return math.inf
    if other.data.dtype.kind != "f":
        return 0.0 if np.array_equal(one.data, other.data) else math.inf
    a, b = one.data.astype(np.float64), other.data.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        apart = np.abs(a - b) / np.maximum(1.0, np.abs(b))
    apart = np.where(same, 0.0, np.where(np.isfinite(a) & np.isfinite(b), apart, math.inf))
    return float(apart.max(initial=0.0))


def _tensor_difference(served: Tensor, again: Tensor, tolerance: float) -> str:
    if served.datatype != again.datatype:
        return f"is of {served.datatype}, not {again.datatype}"
    if served.shape != again.shape:
        return f"has shape {list(served.shape)}, not {list(again.shape)}"
    one, other = served.data.reshape(-1), again.data.reshape(-1)
    if other.dtype.kind == "f":
        # In double, so that the difference of two float16 is not rounded away.
        one, other = one.astype(np.float64), other.astype(np.float64)
        with np.errstate(invalid="ignore"):
            same = np.abs(one - other) <= tolerance * np.maximum(1.0, np.abs(other))
        # To an infinite number no finite one is near, whatever the tolerance times it.
        same &= np.isfinite(other)
        same |= (one == other) | (np.isnan(one) & np.isnan(other))
    else:
        same = np.array(one == other, dtype=bool)
    if same.all():
        return ""
    place = int(np.argmin(same))
    return f"is {one[place]}, not {other[place]}"
