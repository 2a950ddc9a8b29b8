"""A command whose libraries are in an extra of their own says which, where they are missing.

Belongs here: the error of such an import. Not here: which command needs what.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from davy.core.errors import MissingDependencyError


@contextmanager
def needs(command: str, extra: str) -> Iterator[None]:
    """Import within this what `command` needs of an extra.

    Raises
    ------
    MissingDependencyError
        A library is not installed; names the extra that has it.

    Examples
    --------
    >>> with needs("davy task check", "pipeline"):
    ...     import no_such_library
    Traceback (most recent call last):
    davy.core.errors.MissingDependencyError: davy task check: no_such_library is not installed. ...
    """
    try:
        yield
    except ImportError as error:
        raise MissingDependencyError(
            f"{error.name} is not installed", where=command, fix=f"Install davylamp[{extra}]"
        ) from None
