"""``candidates.json``: the measured and judged candidates.

Belongs here: writing and reading that file. Not here: what is in it. It does without torch, so
that the step that chooses need not load it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter

from davy.core.errors import InvalidInputError
from davy.core.files import parse_model, read_document, write_atomic
from davy.packaging.contract import CompressionCandidate

REPORT = "candidates.json"


def write_candidates(folder: Path, candidates: Sequence[CompressionCandidate]) -> Path:
    """Write the file into `folder` and return its path."""
    path = folder / REPORT
    write_atomic(path, _CANDIDATES.dump_json(list(candidates), indent=2) + b"\n")
    return path


def read_candidates(folder: Path) -> list[CompressionCandidate]:
    """Read the file in `folder`.

    Raises
    ------
    NotFoundError, InvalidInputError
        There is no such file, or it is not a list of candidates.
    """
    path = folder / REPORT
    document = read_document(path)
    if not isinstance(document, list):
        raise InvalidInputError(
            "not a list of candidates", where=str(path), fix="Compress the model again"
        )
    return [
        parse_model(item, CompressionCandidate, where=f"{path}, candidate {number}")
        for number, item in enumerate(document, start=1)
    ]


_CANDIDATES = TypeAdapter(list[CompressionCandidate])
