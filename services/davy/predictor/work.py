"""What a request asks of a model, put together with others and taken apart again.

Belongs here: works, which may be one, the rows of each in what all gave.
Not here: when a work is executed (`davy.predictor.batcher`), what is checked of it before
(`davy.predictor.plane`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from davy.core.errors import PermanentError
from davy.predictor.admission import Speed
from davy.predictor.metrics import PredictorMetrics
from davy.protocol.tensors import Array, Tensor

Outputs = tuple[Tensor, ...]


class Executable(Protocol):
    """What executes works; ``run`` may be called from any thread."""

    @property
    def speed(self) -> Speed:
        """What its executions took."""
        ...

    @property
    def together(self) -> bool:
        """Whether rows of several works may be executed at once."""
        ...

    def run(self, feed: Mapping[str, Array], outputs: tuple[str, ...]) -> Outputs:
        """Return the named outputs."""
        ...


@dataclass(frozen=True, slots=True)
class Work:
    """What one request asks of a model, its inputs known to fit the contract."""

    model: Executable
    metrics: PredictorMetrics
    feed: Mapping[str, Array]
    outputs: tuple[str, ...]
    rows: int


def group(work: Work) -> tuple[object, ...] | None:
    """Return what works that may be executed together have in common; None: only alone."""
    if not work.model.together:
        return None
    # Same model, and same extent of every dimension but the rows.
    return (id(work.model), *[array.shape[1:] for array in work.feed.values()])


def put_together(works: Sequence[Work]) -> Work:
    """Return one work with the rows of all, which are of one group, and every output asked for."""
    first = works[0]
    names = tuple(dict.fromkeys(name for work in works for name in work.outputs))
    feed = {name: np.concatenate([work.feed[name] for work in works]) for name in first.feed}
    return Work(first.model, first.metrics, feed, names, sum(work.rows for work in works))


def take_apart(tensors: Outputs, works: Sequence[Work]) -> list[Outputs]:
    """Return of what all gave together the rows and outputs of each.

    Raises
    ------
    PermanentError
        An output has not a row for each row.
    """
    rows = sum(work.rows for work in works)
    for tensor in tensors:
        if tensor.shape[:1] != (rows,):
            raise PermanentError(
                f"has shape {list(tensor.shape)} for {rows} rows", where=f"output '{tensor.name}'"
            )
    named = {tensor.name: tensor for tensor in tensors}
    found = []
    start = 0
    for work in works:
        end = start + work.rows
        found.append(tuple([_part(named[name], start, end) for name in work.outputs]))
        start = end
    return found


def _part(tensor: Tensor, start: int, end: int) -> Tensor:
    data = tensor.data[start:end]
    return Tensor(tensor.name, tensor.datatype, data.shape, data, tensor.parameters)
