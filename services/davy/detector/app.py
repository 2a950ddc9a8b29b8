"""The detector over HTTP: payload events in, verdicts and metrics out.

Belongs here: routes, probes, the life of the consumer. Not here: what is posted (`posts.py`), what
becomes of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from davy.core.clock import Clock
from davy.core.logging import get_logger
from davy.detector.assembly import Parts
from davy.detector.posts import Posts
from davy.detector.settings import DetectorSettings

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
        if parts.label_table is not None:
            workers.append(asyncio.create_task(parts.label_table.run()))
        yield
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), media_type=content_type)

    async def windows(_: Request) -> Response:
        return JSONResponse(parts.consumer.report())

    async def drift(_: Request) -> Response:
        return JSONResponse(parts.watcher.drift())

    def stopped() -> bool:
        return any(worker.done() for worker in workers)

    async def live(_: Request) -> Response:
        # What it acknowledged is on the disk: a new process counts it.
        return JSONResponse({"live": not stopped()}, 503 if stopped() else 200)

    async def ready(_: Request) -> Response:
        works = warm.is_set() and not stopped()
        return JSONResponse({"ready": works}, 200 if works else 503)

    posts = Posts(parts, settings, clock, stopped)
    return Starlette(
        routes=[
            Route("/", posts.events, methods=["POST"]),
            Route("/labels", posts.labels, methods=["POST"]),
            Route("/metrics", metrics),
            Route("/windows", windows),
            Route("/drift", drift),
            Route("/health/live", live),
            Route("/health/ready", ready),
        ],
        lifespan=lifespan,
    )
