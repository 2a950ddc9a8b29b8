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
from typing import Any

from davy.predictor.multiprocess import separate

# Before BentoML is imported: both are read when its modules are.
separate(os.environ)
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import bentoml  # noqa: E402

from davy.core import logging  # noqa: E402
from davy.core.clock import SystemClock  # noqa: E402
from davy.core.errors import DavyError  # noqa: E402
from davy.predictor.front import Front, Place  # noqa: E402
from davy.predictor.settings import PredictorSettings  # noqa: E402
from davy.predictor.verify import check  # noqa: E402

# Of what BentoML itself answers, and of all where `Front` cannot stand before its timer: that is
# kept for each request this long, so it is not longer than a request can need.
TIMEOUT_SECONDS = 30


def _workers() -> int:
    try:
        return PredictorSettings.load().workers
    except DavyError:
        # `verify` refuses to start with these settings, and says why.
        return 1


def make_service() -> Any:
    """Return the service; its model is loaded in the process that serves, not here."""
    place = Place()

    @bentoml.service(
        name="davy-predictor",
        workers=_workers(),
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
            place.lane = self.assembly.lane
            place.before_metrics = self.assembly.count
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
