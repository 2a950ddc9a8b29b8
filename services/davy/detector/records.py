"""What was posted, as the journal keeps it, and the events or labels that it holds.

Belongs here: reading a posted body, the same way when it comes and when it is recovered; its form
in the journal. Not here: HTTP, files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import orjson

from davy.core.errors import InvalidInputError
from davy.detector.samples import Sample, read_sample
from davy.protocol.events import PayloadEvent, decode_batch, decode_event
from davy.protocol.v2 import HEADER_LENGTH

Told = tuple[PayloadEvent, Sample]


@dataclass(frozen=True, slots=True)
class Record:
    """One posted body: one event in binary mode, a batch of events, or labels.

    ``headers`` are those of the event, empty for the others.
    """

    kind: Literal["event", "batch", "labels"]
    received: datetime
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def event_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return those headers of a request that belong to its event."""
    return {
        name.lower(): value
        for name, value in headers.items()
        if name.lower().startswith("ce-") or name.lower() == HEADER_LENGTH
    }


def read_events(record: Record) -> list[PayloadEvent]:
    """Return the events of a record.

    Raises
    ------
    InvalidInputError
        One is malformed; names the place.
    """
    if record.kind == "batch":
        return decode_batch(record.body, received=record.received)
    return [decode_event(record.headers, record.body, received=record.received)]


def with_samples(events: Iterable[PayloadEvent]) -> list[Told]:
    """Return the events, each with its watched row.

    Raises
    ------
    InvalidInputError
        A body is no V2 body of its kind; names the event.
    """
    return [(event, read_sample(event)) for event in events]


def encode_record(record: Record) -> bytes:
    """Return a record as bytes: a line of JSON, then the body."""
    head = {
        "kind": record.kind,
        "received": record.received.isoformat(),
        "headers": dict(record.headers),
    }
    return orjson.dumps(head) + b"\n" + record.body


def decode_record(content: bytes) -> Record:
    """Read what `encode_record` wrote.

    Raises
    ------
    InvalidInputError
        It is no record that this Davy knows.
    """
    head, _, body = content.partition(b"\n")
    try:
        document = orjson.loads(head)
        kind, headers = document["kind"], document["headers"]
        received = datetime.fromisoformat(document["received"])
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInputError(f"no record of the detector: {error!r}", where="journal") from None
    if kind not in ("event", "batch", "labels"):
        raise InvalidInputError(f"a record of the unknown kind '{kind}'", where="journal")
    return Record(kind, received, body, headers)
