"""The detector over HTTP: payload events in, verdicts and metrics out.

Belongs here: routes, content types, status codes. Not here: what becomes of an event.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from davy.core.clock import Clock
from davy.core.errors import InvalidInputError
from davy.core.logging import get_logger
from davy.detector.samples import Sample, read_sample
from davy.detector.settings import DetectorSettings
from davy.detector.watcher import Watcher
from davy.protocol.events import BATCH_CONTENT_TYPE, PayloadEvent, decode_batch, decode_event

STRUCTURED_CONTENT_TYPE = "application/cloudevents+json"


def build_app(
    watcher: Watcher,
    registry: CollectorRegistry,
    settings: DetectorSettings,
    clock: Clock,
    warm_up: Callable[[], object] = lambda: None,
) -> Starlette:
    """Return the application.

    Parameters
    ----------
    watcher : Watcher
        Takes the samples; runs as long as the application does.
    registry : CollectorRegistry
        What /metrics shows.
    settings : DetectorSettings
        The largest body.
    clock : Clock
        Stands in for the time of an event that names none.
    warm_up : callable
        Called once in a worker thread at the start; /health/ready is 503 until it returns.
    """
    warm = asyncio.Event()
    workers: list[asyncio.Task[None]] = []

    async def begin() -> None:
        try:
            await asyncio.to_thread(warm_up)
            warm.set()
            await watcher.run()
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
        found: list[PayloadEvent] = []
        try:
            if kind == BATCH_CONTENT_TYPE:
                found = decode_batch(body, received=clock.now())
            else:
                found = [decode_event(request.headers, body, received=clock.now())]
            samples: list[Sample] = [read_sample(event) for event in found]
        except InvalidInputError as error:
            # All or nothing: the sender learns of the fault and no part is counted twice.
            return _refused(watcher, "malformed", max(len(found), 1), str(error), 400)
        if watcher.accept(samples):
            message = "the queue is full; the rest was taken"
            return JSONResponse({"error": message}, 429, {"Retry-After": "1"})
        return Response(status_code=202)

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), media_type=content_type)

    async def windows(_: Request) -> Response:
        return JSONResponse(watcher.report())

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
    return JSONResponse({"error": message}, status)
