"""From an error to the condition that a person reads.

Belongs here: constant reasons of errors, how long to wait before another try.
Not here: writing conditions (`davy.rollout.status`).
"""

from __future__ import annotations

from davy.core.errors import (
    ConfigurationError,
    ConflictError,
    DavyError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    TemporaryError,
)
from davy.rollout import conditions
from davy.rollout.status import Trouble

LONGEST_WAIT_SECONDS = 60.0

_REASONS: tuple[tuple[type[DavyError], str], ...] = (
    (IntegrityError, conditions.REASON_INTEGRITY),
    (NotFoundError, conditions.REASON_NOT_FOUND),
    (InvalidInputError, conditions.REASON_SPEC_INVALID),
    (ConflictError, conditions.REASON_CHANGED),
    (ConfigurationError, conditions.REASON_CONFIGURATION),
    (TemporaryError, conditions.REASON_TEMPORARY),
)


class RefusedRolloutError(ConflictError):
    """The rollout may not act; ``reason`` is the condition's."""

    def __init__(self, reason: str, what: str, *, where: str, fix: str) -> None:
        super().__init__(what, where=where, fix=fix)
        self.reason = reason


def trouble(error: DavyError) -> Trouble:
    """Return what an error means for the rollout."""
    own = getattr(error, "reason", "")
    found = (reason for kind, reason in _REASONS if isinstance(error, kind))
    reason = own or next(found, conditions.REASON_REFUSED)
    # A missing permission is mended outside the rollout, which then goes on.
    later = isinstance(error, TemporaryError | ConfigurationError)
    return Trouble(reason, str(error), permanent=not later)


def wait_seconds(error: DavyError, failures: int) -> float:
    """Return the time until another try, after so many in a row that failed.

    Examples
    --------
    >>> error = TemporaryError("no answer")
    >>> [wait_seconds(error, failures) for failures in (1, 2, 3, 10, 100)]
    [1.0, 2.0, 4.0, 60.0, 60.0]
    """
    delay = error.delay if isinstance(error, TemporaryError) else LONGEST_WAIT_SECONDS
    doubled = delay * 2.0 ** min(max(failures - 1, 0), 16)
    return min(doubled, max(delay, LONGEST_WAIT_SECONDS))
