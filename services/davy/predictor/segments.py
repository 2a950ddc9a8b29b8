"""In which segment a request is: bounded labels of the counters that the gate reads.

Belongs here: which segments there are, and which a request is in. Not here: counting
(`davy.predictor.metrics`), what a rollout makes of it (`davy.rollout.indicators`).

How many series there are is known before the first request: a value that is not listed is
``other``, whatever clients send.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from davy.core.errors import ConfigurationError
from davy.packaging.contract import Contract, TensorSpec

if TYPE_CHECKING:
    # The process that only supervises reads the settings, too, and needs no arrays.
    from davy.protocol.tensors import Tensor
    from davy.protocol.v2 import InferRequest

OTHER = "other"
# Each is a series of every counter, bucket and outcome, on every pod.
MOST_COMBINATIONS = 64
MOST_CHARACTERS = 100
MOST_INTEGER = 2**64
WHERE = "DAVY_PREDICTOR_SEGMENTS"

_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
# Labels of the counters themselves, and those that Prometheus puts on a target.
TAKEN = frozenset(
    {"model", "version", "outcome", "le", "quantile", "bucket", "output", "rule", "feature"}
    | {"reason", "quantization", "identity", "job", "instance", "namespace", "pod", "container"}
    | {"service", "endpoint", "node"}
)


def problem(segments: Mapping[str, Sequence[str]]) -> str:
    """Return what is wrong with labels and their values, empty when nothing is."""
    for label, values in segments.items():
        if not _LABEL.fullmatch(label) or label in TAKEN:
            return f"'{label}' cannot be a label: letters, digits and '_', and none of the metrics'"
        if not values or len(set(values)) < len(values):
            return f"'{label}' needs values, each once"
        for value in values:
            if not 0 < len(value) <= MOST_CHARACTERS or value == OTHER:
                return (
                    f"'{label}' cannot have the value '{value[:MOST_CHARACTERS]}': 1 to "
                    f"{MOST_CHARACTERS} characters, and '{OTHER}' is what is not listed"
                )
    count = math.prod(len(values) + 1 for values in segments.values())
    if count > MOST_COMBINATIONS:
        return f"{count} combinations of values with '{OTHER}' are more than {MOST_COMBINATIONS}"
    return ""


@dataclass(frozen=True, slots=True)
class Segments:
    """Labels of the counters, and the values that each may have beside `OTHER`.

    Examples
    --------
    >>> Segments.of({"country": ["de", "at"]}).combinations()
    [('other',), ('de',), ('at',)]
    >>> Segments.of({}).combinations()
    [()]
    """

    labels: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, listed: Mapping[str, Sequence[str]]) -> Segments:
        """Return the segments of a setting in which there is no `problem`."""
        return cls(tuple(listed), tuple(tuple(values) for values in listed.values()))

    def combinations(self) -> list[tuple[str, ...]]:
        """Return the labels' values of each place; the first is other for all."""
        return list(itertools.product(*((OTHER, *values) for values in self.values)))


NO_SEGMENTS = Segments((), ())


class SegmentReader:
    """Tells the place of a request among the combinations.

    A label's value is the request's parameter of that name, else that of the input of that name in
    all of its rows.

    Parameters
    ----------
    segments : Segments
        Labels and values.
    contract : Contract
        Its inputs.

    Raises
    ------
    ConfigurationError
        An input has the name of a label but cannot have a value that is listed for it.
    """

    def __init__(self, segments: Segments, contract: Contract) -> None:
        specs = {spec.name: spec for spec in contract.inputs}
        self._labels = []
        stride = len(segments.combinations())
        for label, values in zip(segments.labels, segments.values, strict=True):
            stride //= len(values) + 1
            spec = specs.get(label)
            column = None if spec is None else _Column(spec, values, stride)
            places = {value: place * stride for place, value in enumerate(values, 1)}
            self._labels.append((label, places, column))

    def place(self, request: InferRequest) -> int:
        """Return the place of the request's combination; never raises."""
        place = 0
        for label, places, column in self._labels:
            if label in request.parameters:
                place += places.get(_text(request.parameters[label]), 0)
            elif column is not None:
                for tensor in request.inputs:
                    if tensor.name == label:
                        place += column.place(tensor)
                        break
        return place


class _Column:
    """An input whose values are a label's."""

    def __init__(self, spec: TensorSpec, values: Sequence[str], stride: int) -> None:
        self._datatype = spec.datatype
        self._places = {_value(spec, v): place * stride for place, v in enumerate(values, 1)}

    def place(self, tensor: Tensor) -> int:
        """Return what the value that all rows have adds to the place; 0 for any other."""
        data = tensor.data
        if tensor.datatype != self._datatype or not data.size:
            return 0
        flat = data.ravel()
        place = self._places.get(flat.item(0), 0)
        # Rows are compared only where the first one has a value that is listed.
        return place if place and (data.size == 1 or bool((flat == flat[0]).all())) else 0


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    # Python refuses to write an integer of thousands of digits.
    return str(value) if isinstance(value, int) and abs(value) < MOST_INTEGER else ""


def _value(spec: TensorSpec, text: str) -> object:
    """Return what a text is among an input's values."""
    try:
        if spec.datatype == "BYTES":
            return text.encode()
        if spec.datatype == "BOOL":
            return {"true": True, "false": False}[text]
        return float(text) if spec.datatype.startswith("FP") else int(text)
    except (KeyError, ValueError):
        raise ConfigurationError(
            f"'{text}' is no value of input '{spec.name}', which is {spec.datatype}",
            where=WHERE,
            fix="List values that the input can have, or give the label another name",
        ) from None
