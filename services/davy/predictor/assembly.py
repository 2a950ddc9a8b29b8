"""A predictor put together from its settings.

Belongs here: which parts there are and how they are connected. Not here: BentoML.
"""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from davy.core.clock import Clock
from davy.predictor.admission import Limits
from davy.predictor.batcher import Batcher
from davy.predictor.catalogue import Catalogue, Models, Served
from davy.predictor.explain import Explainer, ExplainLimits
from davy.predictor.handler import Handler
from davy.predictor.metrics import PredictorMetrics
from davy.predictor.model import load_model
from davy.predictor.openapi import Docs
from davy.predictor.payload import NoSink, PayloadLog
from davy.predictor.plane import DataPlane
from davy.predictor.pseudonymise import Pseudonymiser
from davy.predictor.session import SessionSettings
from davy.predictor.settings import PredictorSettings
from davy.predictor.threads import cpu_limit, threads
from davy.predictor.validation import InputPolicy
from davy.predictor.verify import check_columns

if TYPE_CHECKING:
    from davy.predictor.grpc_server import GrpcServer


@dataclass(frozen=True, slots=True)
class Assembly:
    """A handler that is ready to answer, and the log that it tells."""

    handler: Handler
    explainer: Explainer
    docs: Docs
    log: PayloadLog | None
    grpc: GrpcServer | None

    async def start(self) -> None:
        """Begin what runs beside the requests."""
        if self.log is not None:
            await self.log.start()
        if self.grpc is not None:
            await self.grpc.start()

    def drain(self) -> None:
        """Tell clients to go elsewhere; go on answering."""
        self.handler.draining = True
        if self.grpc is not None:
            self.grpc.drain()

    async def close(self) -> None:
        """End what runs beside the requests."""
        if self.grpc is not None:
            await self.grpc.close()
        self.explainer.close()
        if self.log is not None:
            await self.log.close()


def assemble(settings: PredictorSettings, *, registry: CollectorRegistry, clock: Clock) -> Assembly:
    """Load the model and connect the parts around it; call it inside the event loop.

    Raises
    ------
    NotFoundError, IntegrityError, InvalidInputError, ConfigurationError
        The package cannot be served, or the settings do not fit it.
    """
    model = load_model(
        settings.model_dir,
        public_key=settings.public_key,
        settings=session_settings(settings),
    )
    check_columns(settings.pseudonymise, model.contract)
    metrics = PredictorMetrics(registry, model.contract, model.identity)
    key = settings.pseudonymise_key.get_secret_value() if settings.pseudonymise_key else ""
    log = None
    if settings.payload_url is not None:
        log = PayloadLog(
            settings,
            service=settings.service_name or model.contract.name,
            version=model.contract.version,
            metrics=metrics,
            pseudonymiser=Pseudonymiser(settings.pseudonymise, key.encode()),
        )
    batcher = Batcher(limits(settings), clock)
    plane = DataPlane(model, InputPolicy(model.contract.inputs), metrics, batcher)
    explainer = Explainer(
        ExplainLimits(settings.explain_seconds, settings.explain_rows, settings.explain_samples),
        clock,
    )
    models = Models(Catalogue((Served(plane, log or NoSink(), settings.model_dir),)))
    handler = Handler(models, explainer, clock=clock, max_body_bytes=settings.max_body_bytes)
    return Assembly(handler, explainer, Docs(models), log, _grpc(settings, models, handler, clock))


def _grpc(
    settings: PredictorSettings, models: Models, handler: Handler, clock: Clock
) -> GrpcServer | None:
    if settings.grpc_port is None:
        return None
    # Who does not use it pays nothing for it: 10 MB.
    from davy.predictor.grpc_server import GrpcServer

    return GrpcServer(
        models,
        clock=clock,
        address=f"{settings.grpc_host}:{settings.grpc_port}",
        max_message_bytes=settings.max_body_bytes,
        ready=lambda: not handler.draining,
    )


def session_settings(settings: PredictorSettings) -> SessionSettings:
    """Return how models are executed."""
    return SessionSettings(
        threads=threads(settings.threads, cpu_limit()),
        arena=settings.arena,
        optimisation=settings.graph_optimisation,
        providers=settings.providers,
        cache_dir=settings.cache_dir,
    )


def limits(settings: PredictorSettings) -> Limits:
    """Return what may be executed together and what may wait."""
    return Limits(
        batch_rows=settings.batch_rows,
        batch_wait_seconds=settings.batch_wait_seconds,
        inline_seconds=settings.inline_seconds,
        queue_rows=settings.queue_rows,
        max_wait_seconds=settings.max_wait_seconds,
    )


def drain_on_terminate(assembly: Assembly, seconds: float) -> None:
    """On SIGTERM, answer for `seconds` more before the server's own way of stopping begins.

    A load balancer learns from readiness that this server ends, and clients that hold a
    connection are told to leave it, while nobody is refused. Call it inside the event loop, after
    the server set its own handlers.
    """
    loop = asyncio.get_running_loop()
    stop = signal.getsignal(signal.SIGTERM)

    def begin(number: int, frame: FrameType | None) -> None:
        if not callable(stop):
            return
        if assembly.handler.draining:
            stop(number, frame)
            return
        assembly.handler.draining = True
        loop.call_soon_threadsafe(assembly.drain)
        loop.call_soon_threadsafe(loop.call_later, seconds, stop, number, None)

    if seconds > 0:
        signal.signal(signal.SIGTERM, begin)
