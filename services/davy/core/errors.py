"""The one error hierarchy: permanent or temporary, with an HTTP status and an exit code.

Belongs here: every error class that crosses a module's border.
Not here: how an error is shown (the command line and the servers do that).
"""

from __future__ import annotations

from typing import ClassVar


class DavyError(Exception):
    """Base of all errors that Davy raises on purpose.

    Parameters
    ----------
    what : str
        What was wrong, as a sentence without a full stop.
    where : str, optional
        File, field, address or process in which it was found.
    fix : str, optional
        What the reader can do about it.
    """

    http_status: ClassVar[int] = 500
    exit_code: int = 70

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what = what
        self.where = where
        self.fix = fix
        super().__init__(what, where, fix)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f". {self.fix}" if self.fix else ""
        return f"{place}{self.what}{advice}"


class PermanentError(DavyError):
    """Trying again without a change gives the same error."""


class InvalidInputError(PermanentError):
    """Data, a file or a request breaks the contract that it is read under."""

    http_status = 400
    exit_code = 65


class NotFoundError(PermanentError):
    """A file, package, model or version that was named does not exist."""

    http_status = 404
    exit_code = 66


class MissingDependencyError(PermanentError):
    """A program or a library that this step needs is not installed."""

    exit_code = 69


class IntegrityError(PermanentError):
    """A hash or a signature does not match: nothing of it may be used."""

    http_status = 422
    exit_code = 77


class ConflictError(PermanentError):
    """Something else holds what was asked for: a port, a lock, a running rollout."""

    http_status = 409
    exit_code = 73


class ConfigurationError(PermanentError):
    """A setting is missing, misspelt or contradicts another one."""

    exit_code = 78


class TemporaryError(DavyError):
    """Trying again later may succeed.

    Parameters
    ----------
    what, where, fix : str
        As in `DavyError`.
    delay : float, optional
        Seconds after which another try makes sense.
    """

    http_status = 503
    exit_code = 75

    def __init__(self, what: str, *, where: str = "", fix: str = "", delay: float = 1.0) -> None:
        super().__init__(what, where=where, fix=fix)
        self.delay = delay


class UnavailableError(TemporaryError):
    """A service did not answer, or answered that it is not ready."""


class OverloadedError(TemporaryError):
    """The request was shed to keep the others within their deadline."""


class DeadlineError(TemporaryError):
    """The work was not done before its deadline."""

    http_status = 504
