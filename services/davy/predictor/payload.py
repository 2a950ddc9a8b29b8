"""The payload log: tells the detector about requests, and never costs a request anything.

Belongs here: sampling, the bounded queue, batches, posting, the end of the process.
Not here: the events' format (`davy.protocol.events`), what a person's values become
(`davy.predictor.pseudonymise`).

A request is only ever put into a queue, or dropped where that is full. One task posts what is in
the queue; what the receiver does not take in time is dropped too. Every drop is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Protocol

import httpx

from davy.core.logging import get_logger
from davy.predictor.metrics import DropReason, PredictorMetrics
from davy.predictor.pseudonymise import Pseudonymiser
from davy.predictor.settings import PredictorSettings
from davy.protocol.events import (
    BATCH_CONTENT_TYPE,
    REQUEST,
    RESPONSE,
    PayloadEvent,
    encode_batch,
)
from davy.protocol.v2 import Encoded

EVENTS_PER_EXCHANGE = 2
# A receiver that hangs may hold up the start of a predictor no longer than this.
FIRST_POST_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Exchange:
    """One answered request: the bodies as they came and went."""

    id: str
    time: datetime
    request: Encoded
    response: Encoded

    @property
    def size(self) -> int:
        """Bytes of both bodies."""
        return len(self.request.body) + len(self.response.body)


class Sink(Protocol):
    """Where answered requests go."""

    async def start(self) -> None:
        """Begin to take them."""
        ...

    async def close(self) -> None:
        """Pass on what it has."""
        ...

    def wants(self, request_id: str) -> bool:
        """Tell whether this request is in the sample."""
        ...

    def put(self, exchange: Exchange) -> None:
        """Take an exchange, or drop and count it; returns at once."""
        ...


class NoSink:
    """The payload log that is off."""

    async def start(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""

    def wants(self, request_id: str) -> bool:  # noqa: ARG002 (the port's signature)
        """Return False."""
        return False

    def put(self, exchange: Exchange) -> None:
        """Do nothing."""


def sampled(request_id: str, rate: float) -> bool:
    """Tell whether a request is in the sample; the same in every process.

    Examples
    --------
    >>> sum(sampled(str(number), 0.1) for number in range(10_000))
    1029
    """
    if rate >= 1.0:
        return True
    digest = blake2b(request_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < rate * 2**64


class _Body:
    """A body that can be let go once it was posted.

    The client's request and response hold each other, so only the collector ends them: several
    megabytes a post, and in a predictor it hardly ever runs.
    """

    content = b""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.content


class PayloadLog:
    """Posts answered requests in batches; start it inside a running event loop.

    Parameters
    ----------
    settings : PredictorSettings
        The ``payload_*`` settings; ``payload_url`` must be set.
    service, version : str
        The InferenceService's name and the arm, for the events.
    metrics : PredictorMetrics
        Counts what was told and what was dropped.
    pseudonymiser : Pseudonymiser
        Applied before anything is posted.
    client : httpx.AsyncClient, optional
        What posts; made when absent.
    """

    def __init__(
        self,
        settings: PredictorSettings,
        *,
        service: str,
        version: str,
        metrics: PredictorMetrics,
        pseudonymiser: Pseudonymiser,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        self._settings = settings
        self._service = service
        self._version = version
        self._metrics = metrics
        self._pseudonymiser = pseudonymiser
        # Proxies of the environment are for the way out of a cluster, not for its inside.
        self._client = client or httpx.AsyncClient(
            timeout=settings.payload_timeout_seconds, trust_env=False
        )
        self._url = settings.payload_url or ""
        self._waiting: deque[Exchange] = deque()
        self._bytes = 0
        self._posting = 0
        self._arrived = asyncio.Event()
        self._closing = False
        self._failing: DropReason | None = None
        self._task: asyncio.Task[None] | None = None
        self._log = get_logger("predictor.payload")

    async def start(self) -> None:
        """Begin posting.

        An empty batch goes first: what the client loads on its first use would hold up requests
        for tens of milliseconds, and a receiver that does not answer is seen in the log at once.
        """
        limit = min(FIRST_POST_SECONDS, self._settings.payload_timeout_seconds)
        await self._post([], limit)
        self._task = asyncio.get_running_loop().create_task(self._run())

    def wants(self, request_id: str) -> bool:
        """Tell whether this request is in the sample."""
        return sampled(request_id, self._settings.payload_sample_rate)

    def put(self, exchange: Exchange) -> None:
        """Take an exchange, or drop and count it; returns at once."""
        full = (
            self._closing
            or len(self._waiting) >= self._settings.payload_queue
            or self._bytes + exchange.size > self._settings.payload_queue_bytes
        )
        if full:
            self._metrics.dropped("queue_full", EVENTS_PER_EXCHANGE)
            return
        self._waiting.append(exchange)
        self._bytes += exchange.size
        self._arrived.set()

    async def close(self) -> None:
        """Tell what waits, for ``payload_flush_seconds`` at most; drop and count the rest."""
        self._closing = True
        self._arrived.set()
        if self._task is not None:
            done, _ = await asyncio.wait({self._task}, timeout=self._settings.payload_flush_seconds)
            if not done:
                self._task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._task
        left = len(self._waiting) + self._posting
        if left:
            self._metrics.dropped("timeout", left * EVENTS_PER_EXCHANGE)
            self._waiting.clear()
            self._posting = 0
        await self._client.aclose()

    async def _run(self) -> None:
        while True:
            batch = await self._next()
            if not batch:
                return
            self._posting = len(batch)
            await self._post(batch, self._settings.payload_timeout_seconds)
            self._posting = 0
            # Not kept until there is another one.
            del batch

    async def _next(self) -> list[Exchange]:
        """Return the next batch; empty only when closing and nothing waits."""
        while not self._waiting:
            if self._closing:
                return []
            self._arrived.clear()
            await self._arrived.wait()
        size = self._settings.payload_batch
        if len(self._waiting) < size and not self._closing:
            # At the rate of traffic this is one wake-up a batch, not one a request.
            await asyncio.sleep(self._settings.payload_interval_seconds)
        batch: list[Exchange] = []
        room = self._settings.payload_batch_bytes
        while self._waiting and len(batch) < size:
            room -= self._waiting[0].size
            if batch and room < 0:
                break
            batch.append(self._waiting.popleft())
        self._bytes -= sum(exchange.size for exchange in batch)
        return batch

    async def _post(self, batch: Sequence[Exchange], limit: float) -> None:
        reason: DropReason | None = None
        detail = ""
        body = _Body()
        try:
            body.content = encode_batch([e for exchange in batch for e in self._events(exchange)])
            headers = {
                "content-type": BATCH_CONTENT_TYPE,
                "content-length": str(len(body.content)),
            }
            # The client's own limit is one for each step; this one is for all of it.
            async with asyncio.timeout(limit):
                response = await self._client.post(self._url, content=body, headers=headers)
            if not response.is_success:
                reason, detail = "error", f"HTTP {response.status_code}: {response.text[:200]}"
        except (httpx.TimeoutException, TimeoutError) as error:
            reason, detail = "timeout", type(error).__name__
        except httpx.ConnectError as error:
            reason, detail = "refused", str(error)
        except Exception as error:
            # Whatever it is, the next batch may pass: the task must not end.
            reason, detail = "error", f"{type(error).__name__}: {error}"
        finally:
            body.content = b""
        count = len(batch) * EVENTS_PER_EXCHANGE
        if reason is None:
            self._metrics.told(count)
        else:
            self._metrics.dropped(reason, count)
        # One line when it starts to fail and one when it works again, not one a batch.
        if reason != self._failing:
            if reason is None:
                self._log.info("payload events are taken again", url=self._url)
            else:
                self._log.warning(
                    "payload events are dropped", url=self._url, reason=reason, detail=detail
                )
            self._failing = reason

    def _events(self, exchange: Exchange) -> tuple[PayloadEvent, PayloadEvent]:
        request = self._pseudonymiser.request(exchange.request)
        response = self._pseudonymiser.response(exchange.response)
        return (
            self._event(exchange, REQUEST, request),
            self._event(exchange, RESPONSE, response),
        )

    def _event(self, exchange: Exchange, kind: str, encoded: Encoded) -> PayloadEvent:
        return PayloadEvent(
            id=exchange.id,
            type=kind,
            source=f"/davy/predictor/{self._service}",
            time=exchange.time,
            service=self._service,
            namespace=self._settings.service_namespace,
            version=self._version,
            sample_rate=self._settings.payload_sample_rate,
            body=encoded.body,
            header_length=encoded.header_length,
        )
