"""HTTP's bytes of the requests that `davy.predictor.lane` answers, in uvicorn's server.

Belongs here: which requests those are, their answers as bytes.
Not here: everything else of HTTP, which is uvicorn's: requests that come in parts, other methods
and paths, upgrades, pipelining, time limits of connections.

uvicorn makes a scope, a task and a timer of each request before an application sees it, which
takes longer than a small model. Its option ``http`` takes a protocol of one's own: this one is
uvicorn's, and only a request that has come whole and asks for an inference is answered without
them. A request is handed back to uvicorn wherever anything is out of the ordinary.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from davy.predictor.front import Place
from davy.predictor.http import CLOSE, Answer
from davy.predictor.lane import Asked, Lane
from davy.predictor.routes import Route


class _NoEvent:
    """Of a request that waits for nothing more from its client."""

    def set(self) -> None:
        """Do nothing."""


class Cycle:
    """A request in the lane, as uvicorn's protocol looks at the one that it is answering."""

    __slots__ = ("disconnected", "keep_alive", "protocol", "response_complete")
    message_event = _NoEvent()

    def __init__(self, protocol: LaneProtocol) -> None:
        self.protocol: LaneProtocol | None = protocol
        self.response_complete = False
        self.disconnected = False
        self.keep_alive = True

    def tell(self, answer: Answer) -> None:
        """Write the answer."""
        self.response_complete = True
        # The connection holds its last request: both ways, only the collector would free them.
        protocol, self.protocol = self.protocol, None
        if protocol is not None:
            protocol.write(self, answer)


class LaneProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a lane for inference requests.

    Parameters
    ----------
    place : Place
        Where the lane is once a model is ready.
    **arguments
        Of uvicorn's protocol.
    """

    def __init__(self, place: Place, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._place = place
        # What the lane knows nothing of.
        told = self.access_log and self.access_logger.isEnabledFor(logging.INFO)
        self._ordinary = not self.root_path and self.limit_concurrency is None and not told
        # The request that is being read, when it may be one for the lane.
        self._lane: Lane | None = None
        self._route: Route | None = None
        self._body = b""
        # The server makes a timer for each answer, and cancels it for each request. One is
        # enough that looks, when it ends, since when the connection rests.
        self._timer: asyncio.TimerHandle | None = None
        self._rests = False
        self._rested = 0.0

    def data_received(self, data: bytes) -> None:
        """Read what came; a request that is not whole by now is the server's."""
        if self._rests:
            self._rested = self.loop.time()
        super().data_received(data)
        if self._route is not None:
            self._route = None
            body, self._body = self._body, b""
            if not self.transport.is_closing():
                self._hand_back()
                if body:
                    super().on_body(body)

    def on_message_begin(self) -> None:
        """Begin a request; its scope is made when it turns out to need one."""
        self._rests = False
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        """Decide who answers."""
        # It may have begun before the answer to the request before it was written.
        self._rests = False
        self._lane = self._place.lane
        if self._lane is not None and self._may_be_quick():
            self._route = self._lane.route(self.url)
            if self._route is not None:
                self._body = b""
                return
        self._hand_back()

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body."""
        if self._route is None:
            super().on_body(body)
        else:
            # What was read at once of a body that is not in chunks is one part.
            self._body += body

    def on_message_complete(self) -> None:
        """Give a whole request to the lane."""
        route, lane = self._route, self._lane
        if route is None or lane is None:
            super().on_message_complete()
            return
        self._route = None
        # What the server asks of the request that is being answered, and what follows it in the
        # same connection waits for.
        self.cycle = cycle = Cycle(self)  # type: ignore[assignment]
        body, self._body = self._body, b""
        lane.take(Asked(cycle, route, self.headers, body))

    def write(self, cycle: Cycle, answer: Answer) -> None:
        """Write the answer of a request that came through the lane."""
        if cycle.disconnected or self.transport.is_closing():
            return
        closing = self._place.draining or not cycle.keep_alive
        headers = answer.all_headers("", closing=closing)
        parts = [STATUS_LINE[answer.status]]
        for name, value in (*self.server_state.default_headers, *headers):
            parts += (name, b": ", value, b"\r\n")
        parts += (b"\r\n", answer.encoded.body)
        self.transport.write(b"".join(parts))
        if closing or CLOSE in headers:
            self.transport.close()
        if self.pipeline or self._timer is None or self.transport.is_closing():
            self.on_response_complete()
            return
        # The server's way, but for the timer: that runs already.
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self._rest()

    def on_response_complete(self) -> None:
        """Go on with what waits in the connection, or wait for more."""
        super().on_response_complete()
        made, self.timeout_keep_alive_task = self.timeout_keep_alive_task, None
        if made is not None:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = made
        # Unless what came meanwhile in the same connection has begun.
        if self.cycle is None or self.cycle.response_complete:
            self._rest()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that has rested for too long; look again later at another."""
        self._timer = None
        left = self._rested + self.timeout_keep_alive - self.loop.time()
        if self._rests and left <= 0:
            super().timeout_keep_alive_handler()
        elif not self.transport.is_closing():
            later = left if self._rests else self.timeout_keep_alive
            self._timer = self.loop.call_later(later, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _rest(self) -> None:
        self._rests = True
        self._rested = self.loop.time()

    def _may_be_quick(self) -> bool:
        parser = self.parser
        cycle = self.cycle
        return (
            self._ordinary
            and parser.get_method() == b"POST"
            and (cycle is None or cycle.response_complete)
            and not self.expect_100_continue
            and not self.flow.write_paused
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not parser.should_upgrade()
            # Chunks have no length, and lines may follow them that look like headers.
            and not any(name == b"transfer-encoding" for name, _ in self.headers)
        )

    def _hand_back(self) -> None:
        """Let the server answer the request whose headers are complete."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.headers, self.expect_100_continue = url, headers, expects
        # Another list: the parser adds to its own what follows chunks, and that is no header.
        self.scope["headers"] = list(headers)
        super().on_headers_complete()
