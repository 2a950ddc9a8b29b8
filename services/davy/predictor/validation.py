"""The input policy: what the contract allows, and what happens to a value that it does not.

Belongs here: names, datatypes, shapes, missing values, ranges, categories of one request.
Not here: whether the request is well-formed (`davy.protocol`), counting, HTTP.

Every check of values first asks all features at once whether any of them has a suspect, and only
looks at rows where one has: most requests break no rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from davy.core.errors import InvalidInputError
from davy.core.files import nearest
from davy.packaging.allowed import bounds, categories, unknown, within
from davy.packaging.allowed import nearest as nearest_allowed
from davy.packaging.contract import TensorSpec
from davy.protocol.tensors import Array, Tensor
from davy.protocol.v2 import InferRequest

Rule = Literal["dtype", "shape", "missing", "range", "category"]
RULES: tuple[Rule, ...] = ("dtype", "shape", "missing", "range", "category")


MAX_HINTED = 100


@dataclass(frozen=True, slots=True)
class Violation:
    """Values of one feature that break one rule; ``values`` is how many.

    A tensor of another datatype or shape, or none at all, counts as one.
    """

    feature: str
    rule: Rule
    values: int


@dataclass(frozen=True, slots=True)
class Checked:
    """A request held against the contract.

    ``feed`` is what to execute (clipped where the contract says so). ``rejection`` is set when a
    violated rule rejects: then nothing is to be executed, and the feed of a tensor of another
    datatype or shape is empty, because such a one rejects whatever the policy.
    """

    feed: Mapping[str, Array]
    rows: int
    violations: tuple[Violation, ...]
    rejection: InvalidInputError | None


class FormError(Exception):
    """A tensor that cannot be looked into, with what it counts as."""

    def __init__(self, name: str, rule: Rule, text: str) -> None:
        super().__init__(text)
        self.violation = Violation(name, rule, 1)
        self.problem = InvalidInputError(text, where=f"input '{name}'")


class InputPolicy:
    """The contract's inputs, compiled for checking requests.

    Parameters
    ----------
    specs : sequence of TensorSpec
        ``inputs`` of a contract.
    """

    def __init__(self, specs: Sequence[TensorSpec]) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self._bounds = {spec.name: bounds(spec) for spec in specs}
        self._categories = {
            spec.name: categories(spec) for spec in specs if spec.categories is not None
        }
        self._groups = [_Group(group, self._bounds) for group in _group(specs)]
        self._single = [spec.name for spec in specs if not _together(spec)]
        # Whether no input has values that have to be looked at one by one.
        self.bounds_only = not self._categories and all(s.datatype != "BYTES" for s in specs)

    def check(self, request: InferRequest) -> Checked:
        """Hold a request against the contract.

        Raises
        ------
        InvalidInputError
            There are no rows, an input that the contract has not, or a text that is not UTF-8.
        """
        try:
            feed, rows = self.form(request)
        except FormError as error:
            return Checked({}, 0, (error.violation,), error.problem)
        suspects = self.suspects(feed)
        if not suspects:
            return Checked(feed, rows, (), None)
        violations: list[Violation] = []
        rejection: InvalidInputError | None = None
        for name in suspects:
            found, problem = self._look(name, feed)
            violations += found
            rejection = rejection or problem
        return Checked(feed, rows, tuple(violations), rejection)

    def form(self, request: InferRequest) -> tuple[dict[str, Array], int]:
        """Return what to execute and its rows, of a request whose values were not looked at.

        Raises
        ------
        FormError
            A tensor is missing, or of another datatype or shape.
        InvalidInputError
            There are no rows, or an input that the contract has not.
        """
        tensors = {tensor.name: tensor for tensor in request.inputs}
        rows = self._check_form(tensors)
        return {name: tensors[name].data for name in self._specs}, rows

    def suspects(self, feed: Mapping[str, Array]) -> list[str]:
        """Return the inputs in which a value may break a rule."""
        found = [name for group in self._groups for name in group.suspects(feed)]
        return found + [name for name in self._single if self._suspect(name, feed[name])]

    def _suspect(self, name: str, data: Array) -> bool:
        return self._specs[name].categories is not None or not _within(data, *self._bounds[name])

    def _check_form(self, tensors: Mapping[str, Tensor]) -> int:
        rows: int | None = None
        first = ""
        for name, spec in self._specs.items():
            tensor = tensors.get(name)
            if tensor is None:
                raise FormError(name, "missing", "is missing")
            if tensor.datatype != spec.datatype:
                raise FormError(
                    name, "dtype", f"datatype must be {spec.datatype}, not {tensor.datatype}"
                )
            shape = tensor.shape
            if len(shape) != len(spec.shape) or any(
                wanted not in (-1, given) for wanted, given in zip(spec.shape, shape, strict=True)
            ):
                raise FormError(
                    name,
                    "shape",
                    f"shape must be {spec.shape} (-1: the number of rows), not {list(shape)}",
                )
            if not shape or spec.shape[0] != -1:
                continue
            if rows is None:
                rows, first = shape[0], name
            elif rows != shape[0]:
                raise FormError(name, "shape", f"has {shape[0]} rows but '{first}' has {rows}")
        if len(tensors) > len(self._specs):
            name = next(name for name in tensors if name not in self._specs)
            # What resembles none of them may be as long as the body, and so would be the search.
            hint = nearest(name, self._specs) if len(name) <= MAX_HINTED else ""
            raise InvalidInputError(f"the model has no such input{hint}", where=f"input '{name}'")
        if rows == 0:
            raise InvalidInputError("has no rows", where=f"input '{first}'")
        return 1 if rows is None else rows

    def _look(
        self, name: str, feed: dict[str, Array]
    ) -> tuple[list[Violation], InvalidInputError | None]:
        """Check one input's values, clip them in `feed` where the contract says so."""
        spec = self._specs[name]
        data = feed[name]
        violations: list[Violation] = []
        problem: InvalidInputError | None = None
        if data.dtype == object:
            _check_text(name, data)
        if data.dtype.kind == "f" and spec.missing != "allow":
            bad = np.isnan(data)
            if bad.any():
                violations.append(Violation(name, "missing", int(bad.sum())))
                if spec.missing == "reject":
                    problem = _problem(name, bad, "missing", "a value is missing (NaN)")
        if data.dtype != object:
            low, high = self._bounds[name]
            bad = (data < low) | (data > high)
            if bad.any():
                violations.append(Violation(name, "range", int(bad.sum())))
                if spec.policy == "clip":
                    feed[name] = data = within(data, low, high)
                elif spec.policy == "reject":
                    text = f"{_first(data, bad)} is outside [{low:g}, {high:g}]"
                    problem = problem or _problem(name, bad, "range", text)
        if spec.categories is not None:
            bad = self._unknown(name, data)
            if bad.any():
                violations.append(Violation(name, "category", int(bad.sum())))
                if spec.policy == "clip" and data.dtype != object:
                    feed[name] = nearest_allowed(data, self._categories[name])
                elif spec.policy != "flag":
                    text = f"{_first(data, bad)} is none of the {len(spec.categories)} categories"
                    problem = problem or _problem(name, bad, "category", text)
        return violations, problem

    def _unknown(self, name: str, data: Array) -> Array:
        known = self._categories[name]
        if data.dtype != object:
            return unknown(data, known)
        allowed = set(known.tolist())
        return np.array([value not in allowed for value in data.ravel()]).reshape(data.shape)


class _Group:
    """Inputs of one dtype and one value a row, whose bounds are compared in one go."""

    def __init__(
        self, specs: Sequence[TensorSpec], bounds: Mapping[str, tuple[float, float]]
    ) -> None:
        self._names = [spec.name for spec in specs]
        self._low = np.array([bounds[spec.name][0] for spec in specs])
        self._high = np.array([bounds[spec.name][1] for spec in specs])
        self._complete = np.array([spec.missing != "allow" for spec in specs])
        self._floating = specs[0].datatype.startswith("FP")

    def suspects(self, feed: Mapping[str, Array]) -> list[str]:
        block = np.array([feed[name] for name in self._names])
        # Nothing compares with NaN, which minimum and maximum pass on.
        least = np.minimum.reduce(block, axis=1)
        most = np.maximum.reduce(block, axis=1)
        if np.logical_and.reduce((self._low <= least) & (most <= self._high)):
            return []
        # fmin and fmax pass NaN over, so that a missing value alone is no range violation.
        low = np.fmin.reduce(block, axis=1)
        high = np.fmax.reduce(block, axis=1)
        suspect = (low < self._low) | (high > self._high)
        if self._floating:
            suspect |= np.isnan(block).any(axis=1) & self._complete
        if not suspect.any():
            return []
        return [name for name, found in zip(self._names, suspect, strict=True) if found]


def _within(data: Array, low: float, high: float) -> bool:
    """Tell whether all of it is there and within bounds; no for texts, which are looked at."""
    if data.dtype == object or not data.size:
        return False
    # A missing value makes the least and the greatest NaN, with which nothing compares.
    least, most = np.minimum.reduce(data, axis=None), np.maximum.reduce(data, axis=None)
    return bool(low <= least and most <= high)


def _together(spec: TensorSpec) -> bool:
    return spec.shape == [-1] and spec.datatype not in ("BYTES", "BOOL") and not spec.categories


def _group(specs: Sequence[TensorSpec]) -> list[list[TensorSpec]]:
    groups: dict[str, list[TensorSpec]] = {}
    for spec in specs:
        if _together(spec):
            groups.setdefault(spec.datatype, []).append(spec)
    return list(groups.values())


def _first(data: Array, bad: Array) -> object:
    value = data.ravel()[int(np.argmax(bad.ravel()))]
    return value if isinstance(value, bytes) else value.item()


def _check_text(name: str, data: Array) -> None:
    # The runtime's strings are Unicode: other bytes could not even be handed over.
    flat = data.ravel()
    for place, value in enumerate(flat):
        try:
            value.decode()
        except UnicodeDecodeError:
            row = place // max(1, len(flat) // len(data)) if data.ndim else 0
            raise InvalidInputError(
                "is not UTF-8 text", where=f"input '{name}' row {row}"
            ) from None


def _problem(name: str, bad: Array, rule: Rule, text: str) -> InvalidInputError:
    rows = np.atleast_1d(bad)
    row = int(np.argmax(rows.reshape(len(rows), -1).any(axis=1)))
    return InvalidInputError(f"{text} (rule '{rule}')", where=f"input '{name}' row {row}")
