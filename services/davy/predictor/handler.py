"""Open Inference Protocol over HTTP, as a bare ASGI application.

Belongs here: reading a request's headers and body, the answer's status, headers and outcome.
Not here: what the paths mean (`davy.predictor.routes`), inference (`davy.predictor.plane`).

Bare, because a web framework takes longer than the model does: see the measurements in
``services/README.md``.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, MutableMapping
from importlib.metadata import version as package_version
from typing import Any

import orjson

from davy.core.clock import Clock
from davy.core.errors import DavyError, NotFoundError
from davy.core.logging import get_logger
from davy.predictor.card import card
from davy.predictor.catalogue import Models, Served
from davy.predictor.explain import Explainer
from davy.predictor.http import (
    BODY_SECONDS,
    TIMEOUT_HEADER,
    Answer,
    answered,
    body_late,
    problem,
    read_accept,
    read_headers,
    refusal,
    too_large,
    unwelcome,
)
from davy.predictor.inference import execute, failure, in_time, late, with_id
from davy.predictor.metrics import Outcome
from davy.predictor.repository_api import RepositoryApi
from davy.predictor.routes import Route, document, parse
from davy.predictor.turns import Turns
from davy.protocol.v2 import Encoded, decode_request

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class _BodyLateError(Exception):
    """A body did not come whole within `BODY_SECONDS`."""


class Disconnected(Exception):  # noqa: N818 (a course of events, not an error)
    """The client went away before its request was whole."""


class Handler:
    """Answers every path below ``/v2``.

    Parameters
    ----------
    models : Models
        What is served.
    explainer : Explainer
        Explains scores.
    clock : Clock
        Time of arrival, deadlines and durations.
    max_body_bytes : int
        Largest body of an inference request.
    repository : RepositoryApi, optional
        Changes what is served; nobody can when absent.
    turns : Turns, optional
        Tells how long requests waited for the event loop; shared with what else answers in it.
    """

    def __init__(
        self,
        models: Models,
        explainer: Explainer,
        *,
        clock: Clock,
        max_body_bytes: int,
        repository: RepositoryApi | None = None,
        turns: Turns | None = None,
    ) -> None:
        self._repository = repository
        self._models = models
        self._explainer = explainer
        self._clock = clock
        self._turns = turns or Turns(clock)
        self._max_body_bytes = max_body_bytes
        self._server_version = package_version("davylamp")
        self._log = get_logger("predictor")
        self.draining = False

    @property
    def ready(self) -> bool:
        """Whether new requests are welcome: there is a model, and the server is not ending."""
        return self._models.any and not self.draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        try:
            answer = await self._answer(scope, receive)
        except Disconnected:
            # Nobody reads this, but the server wants every request answered.
            answer = problem(400, "the client went away")
        except _BodyLateError:
            answer = body_late()
        body = b"" if scope["method"] == "HEAD" else answer.encoded.body
        headers = answer.all_headers(self._only_version(), closing=self.draining)
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        started = self._turns.began()
        try:
            route = parse(scope["path"])
            if scope["method"] not in route.methods:
                allow = ", ".join(route.methods)
                return problem(405, f"{scope['path']}: takes {allow}", (b"allow", allow.encode()))
            if route.kind == "card":
                return await self._card(route, read_accept(scope["headers"]))
            if route.kind in ("index", "load", "unload"):
                return await self._change(route, receive)
            if route.kind not in ("infer", "explain"):
                return self._get(route)
            served = self._models.find(route.model, route.version)
        except DavyError as error:
            return problem(error.http_status, str(error))
        explain = route.kind == "explain"
        outcome, answer = await self._infer(served, scope, receive, started, explain=explain)
        # The gate judges by these: an explanation is slow by its nature.
        if not explain:
            seconds = self._clock.monotonic() - started
            served.plane.metrics.request(outcome, seconds, answer.segment)
        return answer if answer.version else answer._replace(version=served.version)

    def _only_version(self) -> str:
        only = self._models.catalogue.only()
        return only.version if only is not None else ""

    def _get(self, route: Route) -> Answer:
        ready = self.ready
        catalogue = self._models.catalogue
        answer = document(route, catalogue, ready=ready, server_version=self._server_version)
        if route.kind == "server" and self._repository is not None:
            answer["extensions"].append("model_repository")
        status = 503 if route.kind in ("ready", "model_ready") and not ready else 200
        version = catalogue.find(route.model, route.version).version if route.model else ""
        return Answer(status, Encoded(orjson.dumps(answer), None), version)

    async def _change(self, route: Route, receive: Receive) -> Answer:
        if self._repository is None:
            raise NotFoundError(
                "what is served cannot be changed here",
                where="/v2/repository",
                fix="Set DAVY_PREDICTOR_REPOSITORY_API=true to allow it",
            )
        body = await self._body(receive, None)
        if body is None:
            return too_large(self._max_body_bytes)
        done: Any
        if route.kind == "index":
            done = self._repository.index()
        elif route.kind == "load":
            done = await self._repository.load(route.model, body)
        else:
            done = await self._repository.unload(route.model)
        return Answer(200, Encoded(orjson.dumps(done), None))

    async def _card(self, route: Route, accept: str) -> Answer:
        served = self._models.find(route.model, route.version)
        found = await card(served.plane.model.package, accept)
        media_type, *headers = found.headers
        encoded = Encoded(found.body, None)
        return Answer(200, encoded, served.version, tuple(headers), media_type=media_type)

    async def _infer(
        self, served: Served, scope: Scope, receive: Receive, started: float, *, explain: bool
    ) -> tuple[Outcome, Answer]:
        """Return the outcome to count and the answer to give; never raises but `Disconnected`."""
        request_id = ""
        segment = 0
        try:
            headers = read_headers(scope["headers"])
            refused = unwelcome(headers, self._max_body_bytes)
            if refused is not None:
                return "client_error", refused
            # Before the body is read: what is shed must cost next to nothing.
            served.plane.admit(self._turns)
            deadline = None
            if headers.timeout_seconds is not None:
                deadline = started + headers.timeout_seconds
            body = await self._body(receive, deadline)
            if body is None:
                return "client_error", too_large(self._max_body_bytes)
            request = with_id(decode_request(body, headers.header_length))
            request_id, segment = request.id, served.plane.segment(request)
            in_time(self._clock, deadline, TIMEOUT_HEADER)
            if explain:
                response = await self._explainer.explain(served.plane, request, deadline)
            else:
                response = await execute(served.plane, request, deadline, started)
            answer = answered(
                served,
                request,
                response,
                Encoded(body, headers.header_length),
                deadline,
                self._clock,
                logged=not explain,
            )
        except Disconnected:
            raise
        except _BodyLateError:
            return "client_error", body_late()
        except Exception as error:
            failed = failure(error, request_id, served.plane, self._log)
            return failed.outcome, refusal(failed.error)._replace(segment=segment)
        return "ok", answer._replace(segment=segment)

    async def _body(self, receive: Receive, deadline: float | None) -> bytes | None:
        """Return the body, None when it is too large."""
        left = math.inf if deadline is None else max(0.0, deadline - self._clock.monotonic())
        try:
            async with asyncio.timeout(min(left, BODY_SECONDS)):
                return await _read(receive, self._max_body_bytes)
        except TimeoutError:
            if left <= BODY_SECONDS:
                raise late(TIMEOUT_HEADER) from None
            raise _BodyLateError from None


async def _read(receive: Receive, limit: int) -> bytes | None:
    message = await receive()
    if message["type"] != "http.request":
        raise Disconnected
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return body if len(body) <= limit else None
    chunks = [body]
    size = len(body)
    while message.get("more_body"):
        if size > limit:
            return None
        message = await receive()
        if message["type"] != "http.request":
            raise Disconnected
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
    return b"".join(chunks) if size <= limit else None
