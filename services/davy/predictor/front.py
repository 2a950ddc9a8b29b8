"""The way into the process: ``/v2`` goes to our handler, all else to BentoML.

Belongs here: which of the two a request goes to. Not here: answering it.

BentoML puts a middleware of ours behind its own, which count each path as a series of its own, look
at the address for tracing, and start a task and a timer for each request: a third of a request's
time. So the middleware asks, when the application starts, to stand before them. Where it cannot, it
stays where BentoML put it, and only the time is lost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from davy.predictor.handler import Handler, Receive, Scope, Send
    from davy.predictor.lane import Lane
    from davy.predictor.openapi import Docs


@dataclass(slots=True)
class Place:
    """Where the handler, the lane and the pages are once the model is ready.

    ``before_metrics`` is called before BentoML answers ``/metrics``.
    """

    handler: Handler | None = None
    lane: Lane | None = None
    docs: Docs | None = None
    before_metrics: Callable[[], None] | None = None

    @property
    def draining(self) -> bool:
        """Whether clients are told to go elsewhere."""
        return self.handler is not None and self.handler.draining


class Front:
    """Middleware that answers ``/v2`` itself and passes the rest on."""

    def __init__(
        self, app: Callable[[Scope, Receive, Send], Awaitable[None]], place: Place
    ) -> None:
        self._app = app
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass on."""
        place = self._place
        if scope["type"] == "http":
            path: str = scope["path"]
            if place.handler is not None and (path.startswith("/v2/") or path == "/v2"):
                await place.handler(scope, receive, send)
                return
            if place.docs is not None and path in ("/docs", "/openapi.json"):
                await place.docs(scope, receive, send)
                return
            if place.before_metrics is not None and path == "/metrics":
                place.before_metrics()
        elif scope["type"] == "lifespan":
            self._step_forward(scope.get("app"))
            self._open_lane(receive)
        await self._app(scope, receive, send)

    def _step_forward(self, application: Any) -> None:
        """Stand before all other middleware of a Starlette application."""
        stack = getattr(application, "middleware_stack", None)
        if stack is not None and not isinstance(stack, Front):
            application.middleware_stack = Front(stack, self._place)

    def _open_lane(self, receive: Receive) -> None:
        """Let connections that are made from now on go through the lane, where the server can.

        The server's lifespan is the only place from which an application sees its configuration.
        """
        config = getattr(getattr(receive, "__self__", None), "config", None)
        kind = getattr(config, "http_protocol_class", None)
        if getattr(kind, "__module__", "") != "uvicorn.protocols.http.httptools_impl":
            return
        # Not before: it imports the server, which what is tried without one does not need.
        from davy.predictor.lane_protocol import LaneProtocol

        if kind is LaneProtocol.__base__:
            config.http_protocol_class = partial(LaneProtocol, self._place)  # type: ignore[union-attr]
