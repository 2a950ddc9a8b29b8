"""How an error of a step, raised in a process of its own, reaches the one that started the run.

Belongs here: writing and reading ``error.json`` beside a step's outputs. Not here: running steps.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from davy.core import errors
from davy.core.errors import DavyError
from davy.core.files import write_atomic

FILE_NAME = "error.json"

Given = ParamSpec("Given")
Result = TypeVar("Result")


def recorded(step: Callable[Given, Result]) -> Callable[Given, Result]:
    """Let `step`, whose keyword ``out`` is its first output, leave its error beside that."""

    @wraps(step)
    def run(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        try:
            return step(*args, **kwargs)
        except DavyError as error:
            record(error, Path(str(kwargs["out"])).parent)
            raise

    return run


def record(error: DavyError, folder: Path) -> None:
    """Write `error` into `folder`."""
    fields = {
        "error": type(error).__name__,
        "what": error.what,
        "where": error.where,
        "fix": error.fix,
    }
    write_atomic(folder / FILE_NAME, json.dumps(fields, indent=2) + "\n")


def recall(folder: Path) -> DavyError | None:
    """Return the error that a step left in `folder`, of its own class, or None."""
    try:
        fields: Any = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(fields, dict):
        return None
    kind = getattr(errors, str(fields.get("error")), DavyError)
    if not (isinstance(kind, type) and issubclass(kind, DavyError)):
        kind = DavyError
    return kind(
        str(fields.get("what", "")),
        where=str(fields.get("where", "")),
        fix=str(fields.get("fix", "")),
    )
