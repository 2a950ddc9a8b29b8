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
from typing import Any, NamedTuple

import orjson

from davy.core.clock import Clock
from davy.core.errors import DavyError, InvalidInputError, NotFoundError, TemporaryError
from davy.core.logging import get_logger
from davy.predictor.card import card
from davy.predictor.catalogue import Models, Served
from davy.predictor.explain import Explainer
from davy.predictor.inference import execute, failure, in_time, late, with_id
from davy.predictor.metrics import Outcome
from davy.predictor.payload import Exchange
from davy.predictor.repository_api import RepositoryApi
from davy.predictor.routes import Route, document, parse
from davy.predictor.turns import Turns
from davy.protocol.v2 import Encoded, decode_request, encode_response

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_MESSAGE_LENGTH = 1000
MAX_TIMEOUT_MS = 3_600_000
# For a body to come whole. Nothing else ends a client that stops half-way, and the end of the
# process waits for it; shorter than the half minute that a Pod is given to end.
BODY_SECONDS = 20.0
TIMEOUT_HEADER = "davy-timeout-ms"

_JSON = (b"content-type", b"application/json")
_BINARY = (b"content-type", b"application/octet-stream")
_MEDIA_TYPES = frozenset({b"", b"application/json", b"application/octet-stream"})


class Answer(NamedTuple):
    """A status and a body, with the headers that only this answer has."""

    status: int
    encoded: Encoded
    version: str = ""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    media_type: tuple[bytes, bytes] | None = None


class InferHeaders(NamedTuple):
    """The headers that an inference request may carry."""

    media_type: bytes = b""
    encoding: bytes = b""
    content_length: int | None = None
    header_length: int | None = None
    timeout_seconds: float | None = None


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
            answer = _error(400, "the client went away")
        except _BodyLateError:
            answer = self._body_late()
        body = b"" if scope["method"] == "HEAD" else answer.encoded.body
        headers = [
            answer.media_type or (_JSON if answer.encoded.header_length is None else _BINARY),
            (b"content-length", str(len(answer.encoded.body)).encode()),
            *answer.headers,
        ]
        version = answer.version or self._only_version()
        if version:
            headers.append((b"davy-model-version", version.encode()))
        if answer.encoded.header_length is not None:
            length = str(answer.encoded.header_length).encode()
            headers.append((b"inference-header-content-length", length))
        if self.draining:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        started = self._turns.began()
        try:
            route = parse(scope["path"])
            if scope["method"] not in route.methods:
                allow = ", ".join(route.methods)
                return _error(405, f"{scope['path']}: takes {allow}", (b"allow", allow.encode()))
            if route.kind == "card":
                return await self._card(route, _accept(scope["headers"]))
            if route.kind in ("index", "load", "unload"):
                return await self._change(route, receive)
            if route.kind not in ("infer", "explain"):
                return self._get(route)
            served = self._models.find(route.model, route.version)
        except DavyError as error:
            return _error(error.http_status, str(error))
        explain = route.kind == "explain"
        outcome, answer = await self._infer(served, scope, receive, started, explain=explain)
        # The gate judges by these: an explanation is slow by its nature.
        if not explain:
            served.plane.metrics.request(outcome, self._clock.monotonic() - started)
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
            return self._too_large()
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
        try:
            headers = _headers(scope["headers"])
            refused = self._refuse(headers)
            if refused is not None:
                return "client_error", refused
            # Before the body is read: what is shed must cost next to nothing.
            served.plane.admit(self._turns)
            deadline = None
            if headers.timeout_seconds is not None:
                deadline = started + headers.timeout_seconds
            body = await self._body(receive, deadline)
            if body is None:
                return "client_error", self._too_large()
            request = with_id(decode_request(body, headers.header_length))
            request_id = request.id
            in_time(self._clock, deadline, TIMEOUT_HEADER)
            if explain:
                response = await self._explainer.explain(served.plane, request, deadline)
            else:
                response = await execute(served.plane, request, deadline, started)
            binary = [tensor.name for tensor in response.outputs if request.binary(tensor.name)]
            encoded = encode_response(response, binary=binary)
            in_time(self._clock, deadline, TIMEOUT_HEADER)
        except Disconnected:
            raise
        except _BodyLateError:
            return "client_error", self._body_late()
        except Exception as error:
            failed = failure(error, request_id, served.plane, self._log)
            return failed.outcome, _refusal(failed.error)
        if not explain and served.sink.wants(request.id):
            served.sink.put(
                Exchange(
                    request.id, self._clock.now(), Encoded(body, headers.header_length), encoded
                )
            )
        return "ok", Answer(200, encoded, served.version)

    def _refuse(self, headers: InferHeaders) -> Answer | None:
        if headers.media_type not in _MEDIA_TYPES:
            return _error(
                415,
                f"content-type '{headers.media_type.decode('latin-1')}' is not supported. "
                "Send application/json, or application/octet-stream with "
                "Inference-Header-Content-Length",
            )
        if headers.encoding not in (b"", b"identity"):
            return _error(
                415,
                f"content-encoding '{headers.encoding.decode('latin-1')}' is not supported. "
                "Send the body as it is",
            )
        if headers.content_length is not None and headers.content_length > self._max_body_bytes:
            return self._too_large()
        return None

    def _too_large(self) -> Answer:
        # What is left of the body is not read, so the connection cannot be used again.
        return _error(
            413,
            f"the body is larger than {self._max_body_bytes} bytes. Send fewer rows at a time",
            (b"connection", b"close"),
        )

    def _body_late(self) -> Answer:
        # The rest may still come, so the connection cannot be used again.
        return _error(
            408,
            f"the body did not come whole within {BODY_SECONDS:g} s. Send it faster, or fewer rows",
            (b"connection", b"close"),
        )

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


def _headers(raw: list[tuple[bytes, bytes]]) -> InferHeaders:
    media_type = encoding = b""
    content_length = header_length = None
    timeout: float | None = None
    for name, value in raw:
        if name == b"content-type":
            media_type = value.partition(b";")[0].strip().lower()
        elif name == b"content-length":
            content_length = _integer(value, "content-length")
        elif name == b"content-encoding":
            encoding = value.strip().lower()
        elif name == b"inference-header-content-length":
            header_length = _integer(value, "inference-header-content-length")
        elif name == b"davy-timeout-ms":
            timeout = _integer(value, "davy-timeout-ms", MAX_TIMEOUT_MS) / 1000
    return InferHeaders(media_type, encoding, content_length, header_length, timeout)


def _accept(raw: list[tuple[bytes, bytes]]) -> str:
    return ",".join(value.decode("latin-1") for name, value in raw if name == b"accept")


def _integer(value: bytes, name: str, limit: int = 10**15) -> int:
    # int() alone also takes signs, spaces, underscores and endless digits.
    if value.isdigit() and len(value) <= 16:
        number = int(value)
        if number <= limit:
            return number
    raise InvalidInputError(f"must be an integer from 0 to {limit}", where=name)


def _refusal(error: DavyError) -> Answer:
    if isinstance(error, TemporaryError) and error.http_status == 503:
        after = (b"retry-after", str(math.ceil(error.delay)).encode())
        return _error(error.http_status, str(error), after)
    return _error(error.http_status, str(error))


def _error(status: int, message: str, *headers: tuple[bytes, bytes]) -> Answer:
    # Names from a request can be as long as its body.
    if len(message) > MAX_MESSAGE_LENGTH:
        message = f"{message[:MAX_MESSAGE_LENGTH]}…"
    return Answer(status, Encoded(orjson.dumps({"error": message}), None), headers=headers)
