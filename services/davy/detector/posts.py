"""What is posted to the detector: events and labels, and how each is answered.

Belongs here: content types, status codes. Not here: other routes (`app.py`), keeping what was
posted (`intake.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import Counter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from davy.core.clock import Clock
from davy.core.errors import InvalidInputError, OverloadedError, UnavailableError
from davy.detector.assembly import Parts
from davy.detector.labels import Label, read_labels
from davy.detector.records import Record, Told, event_headers, read_events, with_samples
from davy.detector.settings import DetectorSettings
from davy.protocol.events import BATCH_CONTENT_TYPE, PayloadEvent

STRUCTURED_CONTENT_TYPE = "application/cloudevents+json"


class Posts:
    """Takes what is posted.

    Parameters
    ----------
    parts : Parts
        Keep it.
    settings : DetectorSettings
        The largest body.
    clock : Clock
        Stands in for the time of an event or label that names none.
    stopped : callable
        Tells whether nothing is counted any more.
    """

    def __init__(
        self, parts: Parts, settings: DetectorSettings, clock: Clock, stopped: Callable[[], bool]
    ) -> None:
        self._parts = parts
        self._settings = settings
        self._clock = clock
        self._stopped = stopped

    async def events(self, request: Request) -> Response:
        """Take one event in binary mode, or a batch."""
        dropped = self._parts.metrics.dropped
        body = await self._body(request, dropped)
        if isinstance(body, Response):
            return body
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if kind == STRUCTURED_CONTENT_TYPE:
            message = f"send an event in binary mode, or many as {BATCH_CONTENT_TYPE}"
            return _refused(dropped, "malformed", 1, message, 415)
        batch = kind == BATCH_CONTENT_TYPE
        headers = {} if batch else event_headers(request.headers)
        record = Record("batch" if batch else "event", self._clock.now(), body, headers)
        found: list[PayloadEvent] = []
        try:
            found = read_events(record)
            told = with_samples(found)
        except InvalidInputError as error:
            # All or nothing: the sender learns of the fault and no part is counted twice.
            return _refused(dropped, "malformed", max(len(found), 1), str(error), 400)
        return await self._keep(record, dropped, events=told)

    async def labels(self, request: Request) -> Response:
        """Take labels: one, a list, or one a line."""
        unused = self._parts.metrics.unused
        body = await self._body(request, unused)
        if isinstance(body, Response):
            return body
        record = Record("labels", self._clock.now(), body)
        try:
            found = read_labels(body, received=record.received)
        except InvalidInputError as error:
            return _refused(unused, "malformed", 1, str(error), 400)
        return await self._keep(record, unused, labels=found)

    async def _keep(
        self,
        record: Record,
        counter: Counter,
        *,
        events: Sequence[Told] = (),
        labels: Sequence[Label] = (),
    ) -> Response:
        """Acknowledge what is on the disk; say of all else that nothing of it was taken."""
        items = len(events) + len(labels)
        if self._stopped():
            return _refused(counter, "stopped", items, "nothing is taken any more", 503)
        try:
            await self._parts.intake.put(record, events=events, labels=labels)
        except OverloadedError as error:
            return _refused(counter, "queue_full", items, str(error), 429)
        except UnavailableError as error:
            return _refused(counter, "not_kept", items, str(error), 503)
        return Response(status_code=202)

    async def _body(self, request: Request, counter: Counter) -> bytes | Response:
        """Return the body, or the answer as soon as it is too large."""
        limit = self._settings.body_bytes
        chunks = bytearray()
        try:
            async for chunk in request.stream():
                chunks += chunk
                if len(chunks) > limit:
                    message = f"the body is larger than {limit} bytes"
                    return _refused(counter, "too_large", 1, message, 413)
        except ClientDisconnect:
            return Response(status_code=400)
        return bytes(chunks)


def _refused(counter: Counter, reason: str, items: int, message: str, status: int) -> Response:
    counter.labels(reason).inc(items)
    again = {"Retry-After": "1"} if status in (429, 503) else None
    return JSONResponse({"error": message}, status, again)
