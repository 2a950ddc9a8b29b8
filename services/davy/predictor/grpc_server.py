"""Open Inference Protocol over gRPC, in the event loop of the HTTP server.

Belongs here: calls, deadlines, status codes, metadata, health and reflection, start and stop.
Not here: what messages hold (`davy.protocol.grpc_codec`), inference (`davy.predictor.plane`).

Calls take and give bytes, not messages: what cannot be parsed is then a bad request like any other,
where gRPC itself would call it an error of the server.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from importlib.metadata import version as package_version
from typing import Any, NoReturn

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import ParseDict
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from davy.core.clock import Clock
from davy.core.errors import (
    ConflictError,
    DavyError,
    DeadlineError,
    OverloadedError,
    TemporaryError,
)
from davy.core.logging import get_logger
from davy.predictor.catalogue import Models, Served
from davy.predictor.grpc_tls import TlsFiles
from davy.predictor.inference import execute, failure, in_time, with_id
from davy.predictor.payload import Exchange
from davy.predictor.routes import Kind, Route, document
from davy.predictor.turns import Turns
from davy.protocol import grpc_codec as codec
from davy.protocol import open_inference_pb2 as messages
from davy.protocol.v2 import InferRequest, InferResponse, encode_request, encode_response

SERVICE = "inference.GRPCInferenceService"
VERSION_KEY = "davy-model-version"
# What calls that are under way have left when the server stops.
GRACE_SECONDS = 5.0
# By how much gRPC's clock may end a call before ours says that its time is over.
CLOCKS_DIFFER_SECONDS = 0.01
# A status travels in a header block, of which clients take 8 KiB, with three bytes for one that
# is not ASCII.
MAX_DETAILS_BYTES = 2000

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a call ends that is not answered."""

    code: grpc.StatusCode
    details: str
    metadata: Metadata = ()


def refusal(error: DavyError) -> Refusal:
    """Return what a client is told of an error, and when to try again where that helps."""
    code = _CODES.get(error.http_status, grpc.StatusCode.INTERNAL)
    if isinstance(error, OverloadedError):
        code = grpc.StatusCode.RESOURCE_EXHAUSTED
    # The second key is what gRPC's own retries obey.
    wait: Metadata = ()
    if isinstance(error, TemporaryError) and not isinstance(error, DeadlineError):
        wait = (
            ("retry-after", str(math.ceil(error.delay))),
            ("grpc-retry-pushback-ms", str(math.ceil(error.delay * 1000))),
        )
    details = str(error).encode(errors="replace")[:MAX_DETAILS_BYTES].decode(errors="ignore")
    return Refusal(code, details, wait)


_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    422: grpc.StatusCode.FAILED_PRECONDITION,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}


class GrpcServer:
    """Answers gRPC calls; make and start it inside a running event loop.

    Parameters
    ----------
    models : Models
        What is served.
    clock : Clock
        Time of arrival, deadlines and durations.
    address : str
        ``host:port`` to listen on.
    max_message_bytes : int
        Largest message that is taken.
    ready : callable
        Tells whether new requests are welcome.
    turns : Turns, optional
        Tells how long calls waited for the event loop; shared with what else answers in it.
    tls : TlsFiles, optional
        The port's certificate; plain text without.
    """

    def __init__(
        self,
        models: Models,
        *,
        clock: Clock,
        address: str,
        max_message_bytes: int,
        ready: Callable[[], bool],
        turns: Turns | None = None,
        tls: TlsFiles | None = None,
    ) -> None:
        self._models = models
        self._clock = clock
        self._turns = turns or Turns(clock)
        self._address = address
        self._tls = tls
        self._ready = ready
        self._server_version = package_version("davylamp")
        self._log = get_logger("predictor.grpc")
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", max_message_bytes),
                # Every worker process of a server listens on the one port. That nobody else does
                # is checked before they start.
                ("grpc.so_reuseport", 1),
            ]
        )
        self._telling: set[asyncio.Task[None]] = set()
        self._register()

    async def start(self) -> None:
        """Begin to answer.

        Raises
        ------
        ConflictError
            The address cannot be listened on.
        ConfigurationError
            The certificate cannot be used.
        """
        credentials = None if self._tls is None else self._tls.credentials()
        try:
            if credentials is None:
                self._server.add_insecure_port(self._address)
            else:
                self._server.add_secure_port(self._address, credentials)
        except RuntimeError as error:
            raise ConflictError(
                f"cannot be listened on: {error}",
                where=self._address,
                fix="Set DAVY_PREDICTOR_GRPC_PORT to a free port",
            ) from None
        await self._server.start()
        await self._tell()
        self._models.on_change(lambda: self._later(self._tell()))
        self._log.info("listening", address=self._address, tls=self._tls is not None)

    def drain(self) -> None:
        """Tell whoever watches this server's health to go elsewhere; go on answering."""
        self._later(self._health.enter_graceful_shutdown())

    async def close(self) -> None:
        """Refuse new calls and end when those under way have, or after `GRACE_SECONDS`."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(GRACE_SECONDS)

    async def _tell(self) -> None:
        """Tell who watches whether there is a model to ask; a drain is told by `drain`."""
        statuses = health_pb2.HealthCheckResponse
        status = statuses.SERVING if self._models.any else statuses.NOT_SERVING
        for service in (health.OVERALL_HEALTH, SERVICE):
            await self._health.set(service, status)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    def _register(self) -> None:
        calls: dict[str, Callable[[bytes, Any], Awaitable[bytes]]] = {
            "ModelInfer": self._model_infer,
            "ServerLive": self._about("live", None, messages.ServerLiveResponse),
            "ServerReady": self._about("ready", None, messages.ServerReadyResponse),
            "ServerMetadata": self._about("server", None, messages.ServerMetadataResponse),
            "ModelReady": self._about(
                "model_ready", messages.ModelReadyRequest, messages.ModelReadyResponse
            ),
            "ModelMetadata": self._about(
                "model", messages.ModelMetadataRequest, messages.ModelMetadataResponse
            ),
        }
        handlers = {name: grpc.unary_unary_rpc_method_handler(call) for name, call in calls.items()}
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, handlers),)
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server, pool=_pool())

    def _about(
        self, kind: Kind, request: Any, response: Any
    ) -> Callable[[bytes, Any], Awaitable[bytes]]:
        """Return the call that answers with the document that HTTP gives for `kind`."""

        async def call(data: bytes, context: grpc.aio.ServicerContext) -> bytes:
            try:
                route = Route(kind)
                if request is not None:
                    asked = codec.parse(request, data)
                    route = Route(kind, asked.name, asked.version or None)
                catalogue = self._models.catalogue
                found = document(
                    route, catalogue, ready=self._ready(), server_version=self._server_version
                )
            except DavyError as error:
                await self._refuse(context, error)
            encoded: bytes = ParseDict(
                found, response(), ignore_unknown_fields=True
            ).SerializeToString()
            return encoded

        return call

    async def _model_infer(self, data: bytes, context: grpc.aio.ServicerContext) -> bytes:
        started = self._turns.began()
        remaining = context.time_remaining()
        # What remains is counted from now.
        deadline = None if remaining is None else self._clock.monotonic() + remaining
        message, served = await self._whose(data, context)
        request_id = ""
        segment = 0
        try:
            # Before the tensors are read: what is shed must cost little.
            served.plane.admit(self._turns)
            request = with_id(codec.decode_request(message))
            request_id, segment = request.id, served.plane.segment(request)
            in_time(self._clock, deadline, "deadline")
            response = await execute(served.plane, request, deadline, started)
            raw = bool(message.raw_input_contents)
            answer: bytes = codec.encode_response(response, raw=raw).SerializeToString()
            in_time(self._clock, deadline, "deadline")
        except asyncio.CancelledError:
            # The client left, or gRPC itself ended the call at its deadline.
            now = self._clock.monotonic()
            if deadline is not None and now > deadline - CLOCKS_DIFFER_SECONDS:
                served.plane.metrics.request("timeout", now - started, segment)
            raise
        except Exception as error:
            failed = failure(error, request_id, served.plane, self._log)
            seconds = self._clock.monotonic() - started
            served.plane.metrics.request(failed.outcome, seconds, segment)
            await self._refuse(context, failed.error, served.version)
        served.plane.metrics.request("ok", self._clock.monotonic() - started, segment)
        context.set_trailing_metadata(((VERSION_KEY, served.version),))
        if served.sink.wants(request.id):
            served.sink.put(_exchange(request, response, self._clock))
        return answer

    async def _whose(self, data: bytes, context: grpc.aio.ServicerContext) -> tuple[Any, Served]:
        """Return a request's message and the package that it names, or end the call."""
        try:
            message = codec.parse(messages.ModelInferRequest, data)
        except DavyError as error:
            only = self._models.catalogue.only()
            if only is not None:
                only.plane.metrics.request("client_error", 0.0)
            await self._refuse(context, error)
        try:
            return message, self._models.find(message.model_name, message.model_version or None)
        except DavyError as error:
            await self._refuse(context, error)

    async def _refuse(self, context: Any, error: DavyError, version: str = "") -> NoReturn:
        told = refusal(error)
        only = self._models.catalogue.only()
        version = version or (only.version if only is not None else "")
        metadata = (*told.metadata, *(((VERSION_KEY, version),) if version else ()))
        await context.abort(told.code, told.details, metadata)
        raise error  # not reached: to abort is to raise


def _exchange(request: InferRequest, response: InferResponse, clock: Clock) -> Exchange:
    """Return what the payload log takes: the bodies as HTTP would have carried them."""
    names = [tensor.name for tensor in response.outputs]
    return Exchange(
        request.id,
        clock.now(),
        encode_request(request, binary=True),
        encode_response(response, binary=names),
    )


def _pool() -> DescriptorPool:
    """Return the descriptors that reflection shows; ours are not in the process's pool."""
    pool = DescriptorPool()
    for module in (messages, health_pb2, reflection_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    return pool
