"""Reading a decision record: every line, in order, unchanged since it was written.

Belongs here: from bytes to a `Record`, and what is wrong with them. Not here: the schema of a line
(`davy.rollout.record`), whether the decisions follow (`davy.rollout.replay`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from davy.core.errors import InvalidInputError, NotFoundError
from davy.rollout.record import SCHEMA_VERSION, Header, LookLine, Record, line_hash


class _NotALineError(InvalidInputError):
    """A line that does not parse."""


def parse_record(data: bytes, *, where: str) -> Record | None:
    """Parse a record; None when not even its header was finished.

    Raises
    ------
    InvalidInputError
        A line before the last does not parse, here or in this schema; a look is missing or twice,
        the header is not first, a line was written under other settings, or after another line than
        the one before it. Names the line.
    """
    whole, _, rest = data.rpartition(b"\n")
    lines = whole.split(b"\n") if whole else []
    if not lines:
        return None
    header = _parse(lines[0], Header, where=f"{where}: line 1")
    try:
        looks = tuple(_looks(lines[1:], header, where, line_hash(lines[0])))
    except _NotALineError as error:
        if header.schema_version == SCHEMA_VERSION:
            raise
        # No damage, as far as one can tell.
        raise InvalidInputError(
            f"written in schema {header.schema_version}, this Davy reads {SCHEMA_VERSION} "
            f"({error.what})",
            where=error.where,
            fix=_OTHER_SCHEMA,
        ) from None
    # A record without a look goes on as a chain.
    chained = all(look.previous for look in looks)
    return Record(header, looks, cut_bytes=len(rest), tip=line_hash(lines[-1]), chained=chained)


def _looks(lines: Iterable[bytes], header: Header, where: str, before: str) -> Iterable[LookLine]:
    chained: bool | None = None
    for number, line in enumerate(lines, start=1):
        place = f"{where}: line {number + 1}"
        look = _parse(line, LookLine, where=place)
        if look.look != number:
            raise InvalidInputError(
                f"look {look.look} stands where look {number} should", where=place, fix=_DAMAGED
            )
        if look.settings_hash != header.settings_hash:
            raise InvalidInputError(
                f"decided under settings {look.settings_hash}, the header has "
                f"{header.settings_hash}",
                where=place,
                fix=_DAMAGED,
            )
        if chained is None:
            chained = bool(look.previous)
        if chained and look.previous != before:
            raise InvalidInputError(
                "the line before it is not the one after which it was written: that was changed, "
                "or one was taken out or put in",
                where=place,
                fix=_DAMAGED,
            )
        if not chained and look.previous:
            raise InvalidInputError(
                "a chained line follows one that is not", where=place, fix=_DAMAGED
            )
        before = line_hash(line)
        yield look


_DAMAGED = "The record is damaged: restore it, or start the rollout anew in another folder"
_OTHER_SCHEMA = (
    "Replay it with the version of Davy that wrote it; a rollout that runs starts anew in another "
    "folder"
)


def _parse(line: bytes, model: type[Any], *, where: str) -> Any:
    try:
        return model.model_validate(json.loads(line))
    except (ValueError, ValidationError) as error:
        what = str(error).splitlines()[0]
        raise _NotALineError(f"not a {model.__name__}: {what}", where=where, fix=_DAMAGED) from None


def read_record(path: Path) -> Record:
    """Read a record from a file.

    Raises
    ------
    NotFoundError
        There is no such file.
    InvalidInputError
        It is empty or damaged; names the line.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise NotFoundError("no such record", where=str(path)) from None
    except OSError as error:
        raise InvalidInputError(f"cannot be read ({error.strerror})", where=str(path)) from None
    record = parse_record(data, where=str(path))
    if record is None:
        raise InvalidInputError("empty: not even a header", where=str(path))
    return record
