"""The detector over HTTP: payload events in, verdicts and metrics out.

Belongs here: routes, content types, status codes. Not here: what becomes of an event.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from davy.core.clock import Clock
from davy.core.errors import InvalidInputError, OverloadedError, UnavailableError
from davy.core.logging import get_logger
from davy.detector.assembly import Parts
from davy.detector.records import Record, Told, event_headers, read_events, with_samples
from davy.detector.settings import DetectorSettings
from davy.detector.watcher import Watcher
from davy.protocol.events import BATCH_CONTENT_TYPE, PayloadEvent

STRUCTURED_CONTENT_TYPE = "application/cloudevents+json"


def build_app(
    parts: Parts,
    registry: CollectorRegistry,
    settings: DetectorSettings,
    clock: Clock,
    warm_up: Callable[[], object] = lambda: None,
) -> Starlette:
    """Return the application.

    Parameters
    ----------
    parts : Parts
        Keep what is posted and count it; run as long as the application does.
    registry : CollectorRegistry
        What /metrics shows.
    settings : DetectorSettings
        The largest body.
    clock : Clock
        Stands in for the time of an event that names none.
    warm_up : callable
        Called once in a worker thread at the start; /health/ready is 503 until it returns.
    """
    watcher = parts.watcher
    warm = asyncio.Event()
    workers: list[asyncio.Task[None]] = []

    async def begin() -> None:
        try:
            await asyncio.to_thread(warm_up)
            warm.set()
            await parts.consumer.run()
        except Exception as error:  # the server goes on, so that the probes can say "not ready"
            get_logger("detector").exception("stopped_watching", error=str(error))

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        workers.append(asyncio.create_task(begin()))
        yield
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    async def events(request: Request) -> Response:
        try:
            body = await _body(request, settings.body_bytes)
        except ClientDisconnect:
            return Response(status_code=400)
        if body is None:
            message = f"the body is larger than {settings.body_bytes} bytes"
            return _refused(watcher, "too_large", 1, message, 413)
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if kind == STRUCTURED_CONTENT_TYPE:
            message = f"send an event in binary mode, or many as {BATCH_CONTENT_TYPE}"
            return _refused(watcher, "malformed", 1, message, 415)
        batch = kind == BATCH_CONTENT_TYPE
        headers = {} if batch else event_headers(request.headers)
        record = Record("batch" if batch else "event", clock.now(), body, headers)
        found: list[PayloadEvent] = []
        try:
            found = read_events(record)
            told = with_samples(found)
        except InvalidInputError as error:
            # All or nothing: the sender learns of the fault and no part is counted twice.
            return _refused(watcher, "malformed", max(len(found), 1), str(error), 400)
        return await keep(record, len(told), "queue_full", events=told)

    async def keep(
        record: Record,
        items: int,
        full: str,
        *,
        events: Sequence[Told] = (),
        labels: Sequence[Any] = (),
    ) -> Response:
        """Acknowledge what is on the disk; say of all else that nothing of it was taken."""
        if any(worker.done() for worker in workers):
            return _refused(watcher, "stopped", items, "nothing is taken any more", 503)
        try:
            await parts.intake.put(record, events=events, labels=labels)
        except OverloadedError as error:
            return _refused(watcher, full, items, str(error), 429)
        except UnavailableError as error:
            return _refused(watcher, "not_kept", items, str(error), 503)
        return Response(status_code=202)

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), media_type=content_type)

    async def windows(_: Request) -> Response:
        return JSONResponse(parts.consumer.report())

    async def live(_: Request) -> Response:
        return JSONResponse({"live": True})

    async def ready(_: Request) -> Response:
        works = warm.is_set() and not any(worker.done() for worker in workers)
        return JSONResponse({"ready": works}, 200 if works else 503)

    return Starlette(
        routes=[
            Route("/", events, methods=["POST"]),
            Route("/metrics", metrics),
            Route("/windows", windows),
            Route("/health/live", live),
            Route("/health/ready", ready),
        ],
        lifespan=lifespan,
    )


async def _body(request: Request, limit: int) -> bytes | None:
    """Return the body, or None as soon as it is larger than `limit`."""
    chunks = bytearray()
    async for chunk in request.stream():
        chunks += chunk
        if len(chunks) > limit:
            return None
    return bytes(chunks)


def _refused(watcher: Watcher, reason: str, events: int, message: str, status: int) -> Response:
    watcher.metrics.dropped.labels(reason).inc(events)
    again = {"Retry-After": "1"} if status in (429, 503) else None
    return JSONResponse({"error": message}, status, again)
