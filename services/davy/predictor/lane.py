"""Answers the inference requests that the event loop read in one turn together.

Belongs here: admitting, decoding, executing and answering requests that came whole.
Not here: HTTP's bytes (`davy.predictor.lane_protocol`), requests that came in parts and everything
that is not an inference (`davy.predictor.handler`).

A server hands each request alone to a task, which decodes it, executes the model and encodes the
answer; then the next request begins with code and data that the processor has meanwhile put away:
the same steps take 28 µs one after the other in a loop, and 90 µs when each request does all of
them alone. So what is read in one turn of the event loop goes step by step together, and what may
be executed together is one execution.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Protocol

from davy.core.clock import Clock
from davy.core.errors import DavyError, NotFoundError
from davy.core.logging import get_logger
from davy.predictor.batcher import Batcher
from davy.predictor.catalogue import Models, Served
from davy.predictor.crowd import Result, answer_together
from davy.predictor.http import (
    TIMEOUT_HEADER,
    Answer,
    Headers,
    answered,
    read_headers,
    refusal,
    unwelcome,
)
from davy.predictor.inference import failure, in_time, with_id
from davy.predictor.metrics import Outcome
from davy.predictor.routes import Route, parse
from davy.predictor.turns import Turns
from davy.predictor.work import Work
from davy.protocol.v2 import Encoded, InferRequest, InferResponse, decode_request

# Requests that are answered before the next ones are admitted: whom to refuse is decided by how
# far behind the loop is, which shows only as requests are executed.
TOGETHER = 32
# Addresses that are remembered; each model and version has a few.
MAX_ROUTES = 256


class Waiting(Protocol):
    """Whoever asked."""

    def tell(self, answer: Answer) -> None:
        """Take the answer."""
        ...


class Asked:
    """One inference request that came whole, and what is known of it so far."""

    __slots__ = (
        "body",
        "deadline",
        "headers",
        "request",
        "route",
        "segment",
        "served",
        "waiting",
    )

    served: Served
    request: InferRequest

    def __init__(self, waiting: Waiting, route: Route, headers: Headers, body: bytes) -> None:
        self.waiting = waiting
        self.route = route
        self.headers = headers
        self.body = Encoded(body, None)
        self.deadline: float | None = None
        self.segment = 0


class Lane:
    """Answers inference requests, a turn's together.

    All of it belongs to the thread of the event loop.

    Parameters
    ----------
    models : Models
        What is served.
    batcher : Batcher
        Executes, together with what comes from elsewhere.
    clock : Clock
        Time of arrival, deadlines and durations.
    turns : Turns
        Tells how long requests waited for the event loop.
    max_body_bytes : int
        Largest body of a request.
    """

    def __init__(
        self,
        models: Models,
        batcher: Batcher,
        *,
        clock: Clock,
        turns: Turns,
        max_body_bytes: int,
    ) -> None:
        self._models = models
        self._batcher = batcher
        self._clock = clock
        self._turns = turns
        self._max_body_bytes = max_body_bytes
        self._log = get_logger("predictor")
        self._asked: list[Asked] = []
        self._routes: dict[bytes, Route] = {}
        self._late: set[asyncio.Task[None]] = set()

    def route(self, path: bytes) -> Route | None:
        """Return what a path asks for when that is an inference by a model that is served.

        Parameters
        ----------
        path : bytes
            As it came, with whatever follows it.
        """
        route = self._routes.get(path)
        if route is None:
            route = self._infers(path)
            if route is None:
                return None
            if len(self._routes) >= MAX_ROUTES:
                self._routes.clear()
            self._routes[path] = route
        return route

    def take(self, asked: Asked) -> None:
        """Answer a request in this turn of the event loop."""
        if not self._asked:
            asyncio.get_running_loop().call_soon(self._turn)
        self._asked.append(asked)

    def _infers(self, path: bytes) -> Route | None:
        if not path.startswith(b"/v2/models/") or b"%" in path or b"?" in path or b"#" in path:
            return None
        try:
            route = parse(path.decode("ascii"))
            self._models.find(route.model, route.version)
        except (UnicodeDecodeError, NotFoundError):
            return None
        return route if route.kind == "infer" else None

    def _turn(self) -> None:
        asked, self._asked = self._asked, []
        started = self._turns.began()
        for first in range(0, len(asked), TOGETHER):
            self._answer(asked[first : first + TOGETHER], started)

    def _answer(self, asked: Iterable[Asked], started: float) -> None:
        crowds: dict[int, list[Asked]] = {}
        for one in asked:
            if self._begin(one, started):
                crowds.setdefault(id(one.served), []).append(one)
        for crowd in crowds.values():
            plane = crowd[0].served.plane
            requests = [one.request for one in crowd]
            results: Sequence[Result]
            try:
                results = answer_together(plane, self._batcher, requests, started)
            except Exception as error:
                # Whatever it is: nobody is left without an answer.
                results = [error] * len(crowd)
            for one, result in zip(crowd, results, strict=True):
                if isinstance(result, Work):
                    self._wait(one, result, started)
                else:
                    self._end(one, result, started)

    def _begin(self, one: Asked, started: float) -> bool:
        """Decode a request; tell whether it is to be executed."""
        try:
            one.served = served = self._models.find(one.route.model, one.route.version)
        except DavyError as error:
            # It was unloaded since its headers were read.
            one.waiting.tell(refusal(error))
            return False
        request_id = ""
        try:
            headers = read_headers(one.headers)
            refused = unwelcome(headers, self._max_body_bytes)
            if refused is not None:
                self._tell(one, "client_error", refused, started)
                return False
            served.plane.admit(self._turns)
            if headers.timeout_seconds is not None:
                one.deadline = started + headers.timeout_seconds
            one.body = Encoded(one.body.body, headers.header_length)
            one.request = request = with_id(decode_request(*one.body))
            request_id, one.segment = request.id, served.plane.segment(request)
            in_time(self._clock, one.deadline, TIMEOUT_HEADER)
        except Exception as error:
            self._fail(one, error, request_id, started)
            return False
        return True

    def _wait(self, one: Asked, work: Work, started: float) -> None:
        """Let a request wait for the worker thread."""
        task = asyncio.get_running_loop().create_task(self._later(one, work, started))
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def _later(self, one: Asked, work: Work, started: float) -> None:
        result: InferResponse | Exception
        try:
            tensors = await self._batcher.run(work, one.deadline, started)
            result = one.served.plane.respond(one.request, work.rows, tensors)
        except Exception as error:
            result = error
        self._end(one, result, started)

    def _end(self, one: Asked, result: InferResponse | Exception, started: float) -> None:
        if isinstance(result, Exception):
            self._fail(one, result, one.request.id, started)
            return
        request = one.request
        try:
            answer = answered(one.served, request, result, one.body, one.deadline, self._clock)
        except Exception as error:
            self._fail(one, error, request.id, started)
            return
        self._tell(one, "ok", answer, started)

    def _fail(self, one: Asked, error: Exception, request_id: str, started: float) -> None:
        failed = failure(error, request_id, one.served.plane, self._log)
        self._tell(one, failed.outcome, refusal(failed.error), started)

    def _tell(self, one: Asked, outcome: Outcome, answer: Answer, started: float) -> None:
        served = one.served
        try:
            served.plane.metrics.request(outcome, self._clock.monotonic() - started, one.segment)
        except Exception as error:
            # What cannot be counted is answered, and so is whoever comes after it.
            self._log.error("a request was not counted", exc_info=error)
        one.waiting.tell(answer if answer.version else answer._replace(version=served.version))
