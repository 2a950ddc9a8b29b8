"""From a payload event to the one row of it that is watched.

Belongs here: picking and reading that row. Not here: collecting rows (`windows.py`).

The rows of one request are one shopper's: a hundred of them are not a hundred observations, and
a test that took them for such would alarm at nothing. So each request gives one row. Which one
follows from the request's id, so that the request and its response, which may come apart and in
any order, give the same row, and a replay gives the same windows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from davy.core.errors import InvalidInputError
from davy.protocol.events import REQUEST, PayloadEvent
from davy.protocol.tensors import Tensor
from davy.protocol.v2 import decode_request, decode_response

Number = float | int


@dataclass(frozen=True, slots=True)
class Sample:
    """One row of one event: the features of a request, or the outputs of a response.

    ``tensors`` are all rows of it.
    """

    kind: Literal["request", "response"]
    id: str
    version: str
    time: datetime
    values: Mapping[str, Number]
    tensors: Sequence[Tensor] = ()


def pick_row(event_id: str, rows: int) -> int:
    """Return the row of a request that is watched, in [0, rows), the same for the same id.

    Examples
    --------
    >>> pick_row("a", 100) == pick_row("a", 100), pick_row("a", 1)
    (True, 0)
    """
    # Personalised: a source that samples by a hash of the id must not choose the rows with it.
    digest = hashlib.blake2b(event_id.encode(), digest_size=8, person=b"davy row").digest()
    return int.from_bytes(digest, "big") % rows


def read_sample(event: PayloadEvent) -> Sample:
    """Read the watched row of an event.

    Tensors whose first dimension is not the number of rows, which have several columns or hold
    bytes are left out; the package's contract says later what must be there. The version of a
    response is the body's where the event does not name it.

    Raises
    ------
    InvalidInputError
        The body is not a V2 body of its kind, or has no rows; names the event.
    """
    where = f"event '{event.id}'"
    version = event.version
    try:
        if event.type == REQUEST:
            tensors = decode_request(event.body, event.header_length).inputs
        else:
            response = decode_response(event.body, event.header_length)
            tensors, version = response.outputs, version or response.model_version
    except InvalidInputError as error:
        place = f"{where}, {error.where}" if error.where else where
        raise InvalidInputError(error.what, where=place, fix=error.fix) from None
    return Sample(
        kind="request" if event.type == REQUEST else "response",
        id=event.id,
        version=version,
        time=event.time,
        values=_row(tensors, event.id, where),
        tensors=tensors,
    )


def _row(tensors: Sequence[Tensor], event_id: str, where: str) -> dict[str, Number]:
    rows = max((tensor.shape[0] for tensor in tensors if tensor.shape), default=0)
    if rows == 0:
        raise InvalidInputError("holds no rows", where=where)
    row = pick_row(event_id, rows)
    return {
        tensor.name: tensor.data.reshape(-1)[row].item()
        for tensor in tensors
        if tensor.shape and tensor.shape[0] == rows == tensor.data.size
        if tensor.data.dtype.kind in "fiub"
    }
