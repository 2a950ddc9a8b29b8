"""A predictor put together from its settings.

Belongs here: which parts there are and how they are connected. Not here: BentoML.
"""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from davy.core.clock import Clock
from davy.predictor.admission import Limits
from davy.predictor.batcher import Batcher
from davy.predictor.catalogue import Catalogue, Models, Served
from davy.predictor.explain import Explainer, ExplainLimits
from davy.predictor.families import MetricFamilies
from davy.predictor.handler import Handler
from davy.predictor.lane import Lane
from davy.predictor.memory import Memory, give_back, resident_bytes
from davy.predictor.metrics import PredictorMetrics
from davy.predictor.model import load_model
from davy.predictor.openapi import Docs
from davy.predictor.outliers import OutlierFlags, flagging
from davy.predictor.payload import NoSink, PayloadLog, Sink
from davy.predictor.plane import DataPlane
from davy.predictor.pseudonymise import Pseudonymiser
from davy.predictor.repository import Loaded, Repository
from davy.predictor.repository_api import RepositoryApi
from davy.predictor.segments import SegmentReader, Segments
from davy.predictor.session import SessionSettings
from davy.predictor.settings import PredictorSettings
from davy.predictor.tally import Tallies
from davy.predictor.threads import cpu_limit, threads
from davy.predictor.turns import Turns
from davy.predictor.validation import InputPolicy
from davy.predictor.verify import check_columns
from davy.protocol.names import BASELINE

if TYPE_CHECKING:
    from davy.predictor.grpc_server import GrpcServer


@dataclass(frozen=True, slots=True)
class Assembly:
    """A handler that is ready to answer, and what runs beside it."""

    handler: Handler
    lane: Lane
    explainer: Explainer
    docs: Docs
    repository: Repository
    reload_seconds: float
    grpc: GrpcServer | None
    tallies: Tallies
    memory: Memory

    async def start(self) -> None:
        """Begin what runs beside the requests."""
        await self.repository.start(self.reload_seconds)
        self.memory.start()
        if self.grpc is not None:
            await self.grpc.start()

    def count(self) -> None:
        """Hand what was counted to the metrics."""
        self.tallies.flush()

    def drain(self) -> None:
        """Tell clients to go elsewhere; go on answering."""
        self.handler.draining = True
        if self.grpc is not None:
            self.grpc.drain()

    async def close(self) -> None:
        """End what runs beside the requests."""
        if self.grpc is not None:
            await self.grpc.close()
        self.memory.close()
        self.explainer.close()
        await self.repository.close()
        self.count()


def assemble(settings: PredictorSettings, *, registry: CollectorRegistry, clock: Clock) -> Assembly:
    """Load the model and connect the parts around it; call it inside the event loop.

    Raises
    ------
    NotFoundError, IntegrityError, InvalidInputError, ConfigurationError
        The package cannot be served, or the settings do not fit it.
    """
    models = Models(Catalogue(()))
    families = MetricFamilies(registry, Segments.of(settings.segments))
    # One for all models: their requests use the same cores.
    batcher = Batcher(limits(settings), clock)
    repository = _repository(settings, models, families, batcher)
    repository.open()
    explainer = _explainer(settings, models, clock)
    turns = Turns(clock)
    handler = Handler(
        models,
        explainer,
        clock=clock,
        turns=turns,
        max_body_bytes=settings.max_body_bytes,
        repository=_repository_api(settings, repository, models),
    )
    lane = Lane(models, batcher, clock=clock, turns=turns, max_body_bytes=settings.max_body_bytes)
    grpc = _grpc(settings, models, handler, clock, turns)
    docs = Docs(models, repository=settings.repository_api)
    return Assembly(
        handler,
        lane,
        explainer,
        docs,
        repository,
        settings.reload_seconds,
        grpc,
        families.tallies,
        Memory(resident_bytes, give_back),
    )


def _repository(
    settings: PredictorSettings, models: Models, families: MetricFamilies, batcher: Batcher
) -> Repository:
    key = settings.pseudonymise_key.get_secret_value() if settings.pseudonymise_key else ""
    pseudonymiser = Pseudonymiser(settings.pseudonymise, key.encode())
    session = session_settings(settings)

    def load(path: Path) -> Loaded:
        model = load_model(path, public_key=settings.public_key, settings=session)
        check_columns(settings.pseudonymise, model.contract)
        reader = None
        if settings.segments:
            reader = SegmentReader(families.segments, model.contract)
        return Loaded(model, flagging(model, settings.outliers), reader)

    def serve(loaded: Loaded, path: Path) -> Served:
        model = loaded.model
        baseline = settings.arm == BASELINE
        metrics = PredictorMetrics(families, model.contract, model.identity, baseline=baseline)
        sink: Sink = NoSink()
        if settings.payload_url is not None:
            sink = PayloadLog(
                settings,
                service=settings.service_name or model.contract.name,
                version=model.contract.version,
                metrics=metrics,
                pseudonymiser=pseudonymiser,
            )
        policy = InputPolicy(model.contract.inputs)
        outliers = OutlierFlags(loaded.flagging, metrics) if loaded.flagging else None
        plane = DataPlane(model, policy, metrics, batcher, outliers, loaded.segments)
        return Served(plane, sink, path)

    return Repository(models, settings.folders, load=load, serve=serve)


def _explainer(settings: PredictorSettings, models: Models, clock: Clock) -> Explainer:
    explainer = Explainer(
        ExplainLimits(settings.explain_seconds, settings.explain_rows, settings.explain_samples),
        clock,
    )

    def warm() -> None:
        for entry in models.catalogue.entries:
            explainer.warm(entry.plane.model)

    if settings.explain_warm:
        warm()
        # What it has read of others it does not read again.
        models.on_change(warm)
    return explainer


def _repository_api(
    settings: PredictorSettings, repository: Repository, models: Models
) -> RepositoryApi | None:
    if not settings.repository_api:
        return None
    return RepositoryApi(repository, models, settings.roots)


def _grpc(
    settings: PredictorSettings, models: Models, handler: Handler, clock: Clock, turns: Turns
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
        ready=lambda: handler.ready,
        turns=turns,
        tls=settings.grpc_tls,
    )


def session_settings(settings: PredictorSettings) -> SessionSettings:
    """Return how models are executed."""
    limit = cpu_limit()
    share = None if limit is None else limit / settings.workers
    return SessionSettings(
        threads=threads(settings.threads, share),
        arena=settings.arena,
        optimisation=settings.graph_optimisation,
        providers=settings.providers,
        provider_options={
            # As the runtime itself would write them.
            name: {option: str(value) for option, value in chosen.items()}
            for name, chosen in settings.provider_options.items()
        },
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
