"""What passes between the gate and whoever sends real requests to a candidate that serves nobody.

Belongs here: the file that names the candidates, the bounds by which answers are told apart.
Not here: sending (`davy.detector`), judging (`davy.rollout`).
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError

from davy.core.errors import InvalidInputError, UnavailableError
from davy.core.files import MachineWritten, write_atomic

# How far two answers may lie apart and count as the same, relative or, below 1, absolute: the
# sender counts for each of them, the gate reads one.
TOLERANCES = (1e-4, 1e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
# What the id of a request begins with that nobody waits for.
SHADOW_ID = "shadow-"


class ShadowTarget(MachineWritten):
    """A candidate: requests that ``stable`` answered are sent to it at ``url``."""

    stable: str = Field(min_length=1)
    candidate: str = Field(min_length=1)
    url: str = Field(pattern=r"^https?://[^/]")


class ShadowTargets(MachineWritten):
    """The whole file."""

    targets: list[ShadowTarget] = Field(default_factory=list)


def tolerance_text(tolerance: float) -> str:
    """Return a tolerance as the label of a counter says it.

    >>> [tolerance_text(value) for value in (1e-4, 0.01, 1.0)]
    ['0.0001', '0.01', '1']
    """
    return f"{tolerance:g}"


def read_targets(path: Path) -> ShadowTargets:
    """Return the candidates; none where there is no file.

    Raises
    ------
    InvalidInputError
        It is not such a file.
    UnavailableError
        It cannot be read.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return ShadowTargets()
    except OSError as error:
        raise UnavailableError(f"cannot be read ({error.strerror})", where=str(path)) from None
    try:
        return ShadowTargets.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InvalidInputError(
            f"{place or 'the file'}: {first['msg']}",
            where=str(path),
            fix='Write {"targets": [{"stable": VERSION, "candidate": VERSION, "url": URL}]}',
        ) from None


def write_targets(path: Path, targets: ShadowTargets) -> None:
    """Write the file; a reader finds it as it was or as it is to be."""
    write_atomic(path, targets.model_dump_json())
