"""Files at the edge: read into a model with an error that helps, written whole or not at all.

Belongs here: the two model bases (files by people, files by machines), reading, atomic writing.
Not here: any particular file's schema.
"""

from __future__ import annotations

import difflib
import errno
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from davy.core.errors import InvalidInputError, NotFoundError


class HandWritten(BaseModel):
    """Base of files that people write: an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class MachineWritten(BaseModel):
    """Base of files that machines write: unknown fields of a newer writer are kept."""

    model_config = ConfigDict(extra="allow", frozen=True)


Model = TypeVar("Model", bound=BaseModel)


def read_model(path: Path, model: type[Model]) -> Model:
    """Read a YAML or JSON file into a pydantic model.

    Parameters
    ----------
    path : Path
        File to read; YAML unless its name ends in ``.json``.
    model : type
        The pydantic model that the file must fit.

    Raises
    ------
    NotFoundError
        There is no such file.
    InvalidInputError
        The file is not YAML or JSON, or does not fit the model; names each field, and for a
        misspelt one its nearest match.
    """
    return parse_model(read_document(path), model, where=str(path))


def read_document(path: Path) -> Any:
    """Read a YAML or JSON file into plain Python objects; errors as in `read_model`."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFoundError("no such file", where=str(path)) from None
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"not UTF-8 text ({error.reason})", where=str(path)) from None
    except OSError as error:
        raise InvalidInputError(f"cannot be read ({error.strerror})", where=str(path)) from None
    try:
        return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (json.JSONDecodeError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InvalidInputError(f"cannot be parsed: {reason}", where=str(path)) from None


def parse_model(document: Any, model: type[Model], *, where: str) -> Model:
    """Validate plain objects against a model; see `read_model` for the errors."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        problems = "; ".join(_problems(error, model))
        raise InvalidInputError(problems, where=where, fix="Correct it and try again") from None


def _problems(error: ValidationError, model: type[BaseModel]) -> Iterator[str]:
    known = sorted(_field_names(model))
    for item in error.errors(include_url=False):
        place = ".".join(str(part) for part in item["loc"]) or "the document"
        if item["type"] == "extra_forbidden":
            name = str(item["loc"][-1])
            yield f"unknown field '{place}'{nearest(name, known)}"
        else:
            yield f"{place}: {item['msg']}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return words that point from a misspelt name to the one it resembles, if there is one.

    Examples
    --------
    >>> nearest("epoch", ["epochs", "seed"])
    "; did you mean 'epochs'?"
    >>> nearest("colour", ["epochs", "seed"])
    ''
    """
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{match[0]}'?" if match and match[0] != name else ""


def _field_names(model: type[BaseModel]) -> set[str]:
    schema = model.model_json_schema()
    names = set(schema.get("properties", {}))
    for definition in schema.get("$defs", {}).values():
        names |= set(definition.get("properties", {}))
    return names


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part.

    The content is on the disk before the name points to it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def append_line(path: Path, line: bytes) -> None:
    """Append a line to a file, which is made if it is not there; it is on the disk after that.

    It is one write, so that lines of several processes do not mix. Where a crash cut the last line
    off, that is ended first, and is the only one lost; an empty line may come of it.

    Raises
    ------
    OSError
        It cannot be written; a part of it may have been.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        size = os.fstat(file).st_size
        whole = not size or os.pread(file, 1, size - 1) == b"\n"
        data = (b"" if whole else b"\n") + line + b"\n"
        if os.write(file, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(file)
    finally:
        os.close(file)


def to_json(model: BaseModel, *, indent: int | None = 2) -> str:
    """Return a model as JSON text with a final newline, keys in the order of the fields."""
    return model.model_dump_json(indent=indent) + "\n"
