"""Labels as they are posted: what turned out to be true of a request.

Belongs here: reading and checking them. Not here: what they are about (`joiner.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from davy.core.errors import InvalidInputError
from davy.core.files import nearest

FIELDS = ("request_id", "label", "time", "model")
MAX_ID = 1024


@dataclass(frozen=True, slots=True)
class Label:
    """What turned out: one value for the request, or one a row. An empty ``model`` means any."""

    request_id: str
    values: tuple[float, ...]
    time: datetime
    model: str = ""


def read_labels(body: bytes, *, received: datetime) -> list[Label]:
    """Read one JSON object, a JSON list of them, or one a line (NDJSON).

    Raises
    ------
    InvalidInputError
        It is something else, or one of them is malformed; names its place.
    """
    return [_label(item, where, received) for where, item in _items(body)]


def _items(body: bytes) -> list[tuple[str, Any]]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        lines = [line for line in body.splitlines() if line.strip()]
        if len(lines) < 2:
            raise InvalidInputError(f"not JSON: {error}", where="labels") from None
        return [(f"labels, line {n}", _line(line, n)) for n, line in enumerate(lines, 1)]
    if isinstance(found, list):
        return [(f"labels[{index}]", item) for index, item in enumerate(found)]
    return [("label", found)]


def _line(line: bytes, number: int) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise InvalidInputError(f"not JSON: {error}", where=f"labels, line {number}") from None


def _label(item: Any, where: str, received: datetime) -> Label:
    if not isinstance(item, Mapping):
        raise InvalidInputError("must be an object", where=where, fix=_shape())
    for name in item:
        if name not in FIELDS:
            raise InvalidInputError(
                f"unknown field '{name}'{nearest(str(name), FIELDS)}", where=where, fix=_shape()
            )
    request_id = item.get("request_id")
    if not isinstance(request_id, str) or not 0 < len(request_id) <= MAX_ID:
        raise InvalidInputError(
            f"must be a text of 1 to {MAX_ID} characters", where=f"{where}.request_id", fix=_shape()
        )
    model = item.get("model", "")
    if not isinstance(model, str):
        raise InvalidInputError("must be a text", where=f"{where}.model")
    return Label(request_id, _values(item.get("label"), where), _time(item, where, received), model)


def _values(value: Any, where: str) -> tuple[float, ...]:
    values = value if isinstance(value, list) else [value]
    if not values or not all(
        isinstance(one, bool | int | float) and math.isfinite(one) for one in values
    ):
        raise InvalidInputError(
            "must be a finite number, true or false, or a list of one a row",
            where=f"{where}.label",
            fix="A class is given by its number, as the model's output 'predicted' gives it",
        )
    try:
        return tuple(float(one) for one in values)
    except OverflowError:
        raise InvalidInputError("is too large a number", where=f"{where}.label") from None


def _time(item: Mapping[str, Any], where: str, received: datetime) -> datetime:
    if item.get("time") is None:
        return received
    try:
        time = datetime.fromisoformat(item["time"])
    except (TypeError, ValueError):
        time = None
    if time is None or time.utcoffset() is None:
        raise InvalidInputError(
            "must be a time with an offset (RFC 3339)",
            where=f"{where}.time",
            fix="Leave it out where the label holds as it is posted",
        )
    return time


def _shape() -> str:
    return 'Send {"request_id": "…", "label": 1, "time": "2026-01-31T12:00:00Z"}'
