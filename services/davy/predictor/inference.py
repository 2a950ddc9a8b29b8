"""What every adapter does with an inference request around the data plane, HTTP and gRPC alike.

Belongs here: the request's id, its deadline, what a failure counts as.
Not here: how a request is read and an answer is written (the adapters).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from davy.core.clock import Clock
from davy.core.errors import (
    DavyError,
    DeadlineError,
    InvalidInputError,
    OverloadedError,
    PermanentError,
)
from davy.predictor.metrics import Outcome
from davy.predictor.plane import DataPlane
from davy.protocol.v2 import InferRequest, InferResponse

MAX_ID_LENGTH = 256
# Seeded by the system in each process; an id is a name, not a secret, and a system call for each
# takes longer than to read a request.
_IDS = random.Random()  # noqa: S311


@dataclass(frozen=True, slots=True)
class Failure:
    """What a request that was not answered counts as, and what its client is told."""

    outcome: Outcome
    error: DavyError


async def execute(
    plane: DataPlane,
    request: InferRequest,
    deadline: float | None = None,
    read: float | None = None,
) -> InferResponse:
    """Answer a request in its turn; `deadline` and `read` are times of the monotonic clock."""
    return await plane.answer(request, deadline, read)


def with_id(request: InferRequest) -> InferRequest:
    """Give a request an id if it has none.

    Raises
    ------
    InvalidInputError
        Its own id is too long.
    """
    if not request.id:
        name = f"{_IDS.getrandbits(128):032x}"
        return InferRequest(request.inputs, name, request.outputs, request.parameters)
    if len(request.id) > MAX_ID_LENGTH:
        raise InvalidInputError(f"is longer than {MAX_ID_LENGTH} characters", where="id")
    return request


def late(where: str) -> DeadlineError:
    """Return the error of a request past its deadline; `where` is who set that."""
    return DeadlineError("the request was not answered in time", where=where)


def in_time(clock: Clock, deadline: float | None, where: str) -> None:
    """Refuse to go on with a request that nobody waits for any more.

    Raises
    ------
    DeadlineError
        `deadline`, a time of ``clock.monotonic()``, is past.
    """
    if deadline is not None and clock.monotonic() > deadline:
        raise late(where)


def failure(error: Exception, request_id: str, plane: DataPlane, log: Any) -> Failure:
    """Classify what a request raised; faults of the server are logged with the request's id.

    After that, the error knows no longer where it was raised.
    """
    failed = _classify(error, request_id, plane, log)
    # The frames that it went through hold the request, and one of them the error: a ring that only
    # the collector opens, which hardly ever runs. Where most requests are refused, their bodies
    # would fill the memory.
    error.__traceback__ = error.__context__ = error.__cause__ = None
    return failed


def _classify(error: Exception, request_id: str, plane: DataPlane, log: Any) -> Failure:
    if isinstance(error, DeadlineError):
        return Failure("timeout", error)
    if isinstance(error, OverloadedError):
        return Failure("shed", error)
    if isinstance(error, DavyError) and error.http_status < 500:
        return Failure("client_error", error)
    log.error(
        "inference failed",
        request_id=request_id,
        model=plane.name,
        version=plane.version,
        error=str(error),
        cause=str(error.__cause__ or ""),
        exc_info=error if not isinstance(error, DavyError) else None,
    )
    # What an unforeseen error says may hold what is not for the client.
    what = str(error) if isinstance(error, DavyError) else "the request could not be answered"
    return Failure("server_error", PermanentError(f"{what} (request {request_id or 'without id'})"))
