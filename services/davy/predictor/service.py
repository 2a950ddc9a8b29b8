"""The BentoML service: ``bentoml serve davy.predictor.service:Predictor``.

Belongs here: where BentoML calls us, and its configuration.
Not here: anything that can be tried without BentoML (`davy.predictor.assembly`).

The handler is placed as a middleware that answers ``/v2`` itself, and ``/docs`` with its
``/openapi.json``; everything else (``/metrics``, ``/docs.json``, ``/livez``, ``/readyz``) is
BentoML's.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from davy.predictor.multiprocess import separate

# Before BentoML is imported: both are read when its modules are.
separate(os.environ)
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import bentoml  # noqa: E402

from davy.core import logging  # noqa: E402
from davy.core.clock import SystemClock  # noqa: E402
from davy.core.errors import DavyError  # noqa: E402
from davy.predictor.settings import PredictorSettings  # noqa: E402
from davy.predictor.verify import check  # noqa: E402

if TYPE_CHECKING:
    from davy.predictor.handler import Handler, Receive, Scope, Send
    from davy.predictor.openapi import Docs

# BentoML keeps a timer for each request this long, so it is not longer than a request can need.
TIMEOUT_SECONDS = 30


@dataclass(slots=True)
class Place:
    """Where the handler and the pages are once the model is ready."""

    handler: Handler | None = None
    docs: Docs | None = None


class Front:
    """Middleware that answers ``/v2`` itself and passes the rest on to BentoML."""

    def __init__(
        self, app: Callable[[Scope, Receive, Send], Awaitable[None]], place: Place
    ) -> None:
        self._app = app
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass on."""
        handler = self._place.handler
        if handler is not None and scope["type"] == "http":
            path: str = scope["path"]
            if path.startswith("/v2/") or path == "/v2":
                await handler(scope, receive, send)
                return
            if path in ("/docs", "/openapi.json") and self._place.docs is not None:
                await self._place.docs(scope, receive, send)
                return
        await self._app(scope, receive, send)


def make_service() -> Any:
    """Return the service; its model is loaded in the process that serves, not here."""
    place = Place()

    @bentoml.service(
        name="davy-predictor",
        # One: a pod is scaled by replicas, and threads inside the runtime use its cores.
        workers=1,
        traffic={"timeout": TIMEOUT_SECONDS},
        logging={"access": {"enabled": False}},
        tracing={"excluded_urls": "/v2.*"},
    )
    class Predictor:
        """One model package behind the Open Inference Protocol."""

        @bentoml.on_deployment  # type: ignore[untyped-decorator]
        @staticmethod
        def verify() -> None:
            """Refuse to start at all with a package that cannot be served."""
            logging.configure()
            try:
                check(PredictorSettings.load())
            except DavyError as error:
                logging.get_logger("predictor").error("not started", error=str(error))
                sys.exit(error.exit_code)

        @bentoml.on_startup  # type: ignore[untyped-decorator]
        async def begin(self) -> None:
            """Load the model; the server accepts requests after this."""
            from prometheus_client import CollectorRegistry

            from davy.predictor.assembly import assemble, drain_on_terminate

            logging.configure()
            settings = PredictorSettings.load()
            # BentoML's /metrics collects every registry of the process through its value files.
            self.assembly = assemble(settings, registry=CollectorRegistry(), clock=SystemClock())
            await self.assembly.start()
            drain_on_terminate(self.assembly, settings.drain_seconds)
            place.handler, place.docs = self.assembly.handler, self.assembly.docs
            # What is loaded stays: the collector need not visit it during requests.
            gc.collect()
            gc.freeze()
            gc.set_threshold(100_000, 50, 1000)

        @bentoml.on_shutdown  # type: ignore[untyped-decorator]
        async def end(self) -> None:
            """Tell what is still to be told."""
            await self.assembly.close()

    service: Any = Predictor
    service.add_asgi_middleware(Front, place=place)
    return service


Predictor = make_service()
