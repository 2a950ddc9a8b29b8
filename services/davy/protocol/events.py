"""Payload events: what the predictor tells the detector about each inference.

Belongs here: CloudEvents 1.0 over HTTP, one event in binary mode and many in batched JSON mode,
in both directions. Not here: sampling, queues, sending and receiving.

Attributes are those of KServe's logger, plus three extensions of ours: ``davyversion`` (the arm),
``davysamplerate`` (share of requests that are told, as text: CloudEvents has no fractions) and
``davyheaderlength`` (length of the JSON header where the V2 body is binary).

Source: CloudEvents 1.0.2, "HTTP Protocol Binding" and "JSON Event Format".
"""

from __future__ import annotations

import binascii
import math
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote, unquote

import orjson

from davy.core.errors import InvalidInputError
from davy.protocol.v2 import HEADER_LENGTH

REQUEST = "org.kubeflow.serving.inference.request"
RESPONSE = "org.kubeflow.serving.inference.response"
BATCH_CONTENT_TYPE = "application/cloudevents-batch+json"
JSON_CONTENT_TYPE = "application/json"
BINARY_CONTENT_TYPE = "application/octet-stream"

# Printable ASCII but for space, double quote and percent goes into a header as it is.
_PLAIN = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')


@dataclass(frozen=True, slots=True)
class PayloadEvent:
    """One V2 body that passed a predictor.

    ``id`` is the request's, the same in its request and its response event. ``version`` is the
    package version of the arm, empty where the source does not name it. ``sample_rate`` is the
    share of requests that this source tells, in (0, 1]. ``header_length`` is the length in bytes
    of the JSON header where ``body`` uses the binary extension, else None.
    """

    id: str
    type: str
    source: str
    time: datetime
    service: str
    namespace: str
    version: str
    sample_rate: float
    body: bytes
    header_length: int | None = None


def encode_event(event: PayloadEvent) -> tuple[dict[str, str], bytes]:
    """Return the HTTP headers and the body of one event in binary mode."""
    attributes = {
        f"ce-{name}": quote(str(value), safe=_PLAIN) for name, value in _attributes(event).items()
    }
    return {"content-type": _content_type(event), **attributes}, event.body


def decode_event(
    headers: Mapping[str, str], body: bytes, *, received: datetime | None = None
) -> PayloadEvent:
    """Read one event in binary mode.

    Parameters
    ----------
    headers : mapping of str to str
        HTTP headers, names in any case.
    body : bytes
        The V2 body.
    received : datetime, optional
        Stands in for ``ce-time``, which a source may leave out.

    Raises
    ------
    InvalidInputError
        An attribute is missing or malformed; names the header.
    """
    values: dict[str, Any] = {}
    for name, value in headers.items():
        lowered = name.lower()
        if lowered.startswith("ce-"):
            values[lowered[3:]] = unquote(value)
        elif lowered == HEADER_LENGTH:
            values.setdefault("davyheaderlength", value)
    return _event(values, body, "ce-", received)


def encode_batch(events: Iterable[PayloadEvent]) -> bytes:
    """Return events as one body of content type ``application/cloudevents-batch+json``."""
    return orjson.dumps(
        [
            {
                **_attributes(event),
                "datacontenttype": _content_type(event),
                "data_base64": b64encode(event.body).decode(),
            }
            for event in events
        ]
    )


def decode_batch(body: bytes, *, received: datetime | None = None) -> list[PayloadEvent]:
    """Read a body that `encode_batch`, or another writer of the same format, made.

    Raises
    ------
    InvalidInputError
        Not a JSON list of events, or one of them is malformed: names its index and attribute.
    """
    try:
        items = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInputError(f"not JSON: {error}", where="batch") from None
    if not isinstance(items, list):
        raise InvalidInputError("must be a list of events", where="batch")
    return [_item(item, f"batch[{index}]", received) for index, item in enumerate(items)]


def _item(item: Any, where: str, received: datetime | None) -> PayloadEvent:
    if not isinstance(item, dict):
        raise InvalidInputError("must be an object", where=where)
    encoded = item.get("data_base64")
    if encoded is None:
        body = orjson.dumps(item.get("data"))
    elif isinstance(encoded, str):
        try:
            body = b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            raise InvalidInputError("not base64", where=f"{where}.data_base64") from None
    else:
        raise InvalidInputError("must be a string", where=f"{where}.data_base64")
    return _event(item, body, f"{where}.", received)


def _content_type(event: PayloadEvent) -> str:
    return JSON_CONTENT_TYPE if event.header_length is None else BINARY_CONTENT_TYPE


def _attributes(event: PayloadEvent) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "specversion": "1.0",
        "id": event.id,
        "type": event.type,
        "source": event.source,
        "time": event.time.isoformat(),
        "inferenceservicename": event.service,
        "namespace": event.namespace,
        "davyversion": event.version,
        "davysamplerate": repr(event.sample_rate),
    }
    if event.header_length is not None:
        attributes["davyheaderlength"] = event.header_length
    return {name: value for name, value in attributes.items() if value != ""}


def _event(
    values: Mapping[str, Any], body: bytes, prefix: str, received: datetime | None
) -> PayloadEvent:
    if _text(values, "specversion", prefix) != "1.0":
        raise InvalidInputError("must be 1.0", where=f"{prefix}specversion")
    kind = _text(values, "type", prefix)
    if kind not in (REQUEST, RESPONSE):
        raise InvalidInputError(f"must be {REQUEST} or {RESPONSE}", where=f"{prefix}type")
    return PayloadEvent(
        id=_text(values, "id", prefix),
        type=kind,
        source=_text(values, "source", prefix),
        time=_time(values, prefix, received),
        service=_text(values, "inferenceservicename", prefix, ""),
        namespace=_text(values, "namespace", prefix, ""),
        version=_text(values, "davyversion", prefix, ""),
        sample_rate=_rate(values, prefix),
        body=body,
        header_length=_length(values, prefix),
    )


def _text(values: Mapping[str, Any], name: str, prefix: str, default: str | None = None) -> str:
    value = values.get(name, default)
    if not isinstance(value, str) or (default is None and not value):
        raise InvalidInputError("must be a non-empty string", where=f"{prefix}{name}")
    return value


def _time(values: Mapping[str, Any], prefix: str, received: datetime | None) -> datetime:
    if "time" not in values and received is not None:
        return received
    try:
        time = datetime.fromisoformat(_text(values, "time", prefix))
    except ValueError:
        time = None
    if time is None or time.utcoffset() is None:
        raise InvalidInputError("must be a time with an offset (RFC 3339)", where=f"{prefix}time")
    return time


def _rate(values: Mapping[str, Any], prefix: str) -> float:
    try:
        rate = float(values.get("davysamplerate", 1.0))
    except (TypeError, ValueError, OverflowError):
        rate = math.nan
    if not 0.0 < rate <= 1.0:
        raise InvalidInputError(
            "must be a number above 0 and up to 1", where=f"{prefix}davysamplerate"
        )
    return rate


def _length(values: Mapping[str, Any], prefix: str) -> int | None:
    value = values.get("davyheaderlength")
    if value is None:
        return None
    # int() would also take "1_0", other alphabets' digits and fractions.
    text = str(value)
    if isinstance(value, bool) or not (text.isascii() and text.isdigit() and len(text) < 16):
        raise InvalidInputError("must be an integer >= 0", where=f"{prefix}davyheaderlength")
    return int(text)
