"""The one client of all servers: messages written once, answers read by their length.

Belongs here: closed and open load over kept connections, HTTP and gRPC. Not here: what is asked.

A protocol and not streams: the client must never be what is measured.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import grpc
import numpy as np

GRPC_METHOD = "/inference.GRPCInferenceService/ModelInfer"


@dataclass(slots=True)
class Measured:
    """What a load found.

    Attributes
    ----------
    latencies : list of float
        Seconds of each answer of 200. A refusal is quick: it would flatter rate and latency.
    failed : int
        Requests that were answered otherwise, or not at all.
    seconds : float
        How long it all took.
    """

    latencies: list[float] = field(default_factory=list)
    failed: int = 0
    seconds: float = 0.0

    def answered(self, seconds: float, ok: bool) -> None:
        """Count an answer."""
        if ok:
            self.latencies.append(seconds)
        else:
            self.failed += 1

    @property
    def ended(self) -> int:
        """Requests that are not on their way any more."""
        return len(self.latencies) + self.failed


class Connection(asyncio.Protocol):
    """One kept connection with one request on its way at most."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._buffer = b""
        self._wanted = 0
        self._ok = False
        self._transport: asyncio.Transport | None = None
        self.asked_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's is one without inheriting from it.
        self._transport = cast(asyncio.Transport, transport)

    @property
    def open(self) -> bool:
        """Whether it can be asked."""
        return self._transport is not None

    def ask(self, message: bytes, at: float) -> None:
        """Send a message whose time counts from `at`."""
        if self._transport is None:
            raise ConnectionError("the server closed the connection")
        self.asked_at = at
        self._transport.write(message)

    def data_received(self, data: bytes) -> None:
        """Take a part of an answer."""
        data = self._buffer + data if self._buffer else data
        if not self._wanted:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._buffer = data
                return
            head = data[:end].lower()
            self._ok = head[9:12] == b"200"
            start = head.find(b"content-length: ")
            if start < 0:
                raise ValueError(f"an answer without its length: {head!r}")
            self._wanted = end + 4 + int(head[start + 16 :].split(b"\r\n", 1)[0])
        if len(data) < self._wanted:
            self._buffer = data
            return
        self._buffer, self._wanted = b"", 0
        self._client.answered(self, self._ok)

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the transport."""
        self._transport = None
        self._client.lost()

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()


class Client:
    """Connections to one server; make them inside a running event loop."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connections: list[Connection] = []
        self.answered: Callable[[Connection, bool], None] = lambda *_: None
        self.lost: Callable[[], None] = lambda: None

    async def connect(self, connections: int) -> None:
        """Have so many connections; those that the server closed meanwhile are made anew."""
        loop = asyncio.get_running_loop()
        self._connections = [c for c in self._connections if c.open]
        while len(self._connections) < connections:
            _, connection = await loop.create_connection(
                lambda: Connection(self), "127.0.0.1", self._port
            )
            self._connections.append(connection)

    def close(self) -> None:
        """Close all connections."""
        self.lost = lambda: None
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    async def closed(
        self, messages: Sequence[bytes], connections: int, seconds: float, limit: float = 30.0
    ) -> Measured:
        """Ask on each connection again as soon as it is answered, for some seconds."""
        await self.connect(connections)
        measured = Measured()
        turn = itertools.cycle(messages)
        finished = asyncio.get_running_loop().create_future()
        started = time.perf_counter()
        end = started + seconds
        flying = connections

        def answered(connection: Connection, ok: bool) -> None:
            nonlocal flying
            now = time.perf_counter()
            measured.answered(now - connection.asked_at, ok)
            if now < end:
                connection.ask(next(turn), now)
                return
            flying -= 1
            if not flying:
                measured.seconds = now - started
                finished.set_result(None)

        def lost() -> None:
            if not finished.done():
                finished.set_exception(ConnectionError("the server closed a connection"))

        self.answered, self.lost = answered, lost
        for connection in self._connections[:connections]:
            connection.ask(next(turn), time.perf_counter())
        async with asyncio.timeout(seconds + limit):
            await finished
        self.lost = lambda: None
        return measured

    async def opened(
        self, message: bytes, rate: float, seconds: float, connections: int = 64
    ) -> Measured:
        """Ask at random times at a rate, whether answers come or not; seconds count from those."""
        await self.connect(connections)
        measured = Measured()
        gaps = np.random.default_rng(1).exponential(1 / rate, max(1, int(rate * seconds)))
        start = time.perf_counter() + 0.01
        due = deque((start + np.cumsum(gaps)).tolist())
        idle = deque(self._connections[:connections])
        total = len(due)
        closed = False

        def answered(connection: Connection, ok: bool) -> None:
            measured.answered(time.perf_counter() - connection.asked_at, ok)
            idle.append(connection)

        def lost() -> None:
            nonlocal closed
            closed = True

        self.answered, self.lost = answered, lost
        # It looks at the clock without a pause: a timer is only good for milliseconds.
        limit = start + seconds + 30
        while measured.ended < total and time.perf_counter() < limit:
            if closed:
                raise ConnectionError("the server closed a connection")
            while due and idle and due[0] <= time.perf_counter():
                idle.popleft().ask(message, due.popleft())
            await asyncio.sleep(0)
        self.lost = lambda: None
        measured.failed += total - measured.ended
        measured.seconds = time.perf_counter() - start
        return measured


async def grpc_closed(port: int, message: bytes, calls: int, seconds: float) -> Measured:
    """As `Client.closed`, so many gRPC calls on their way at once over one channel."""
    measured = Measured()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(GRPC_METHOD)
        await call(message, wait_for_ready=True, timeout=10)
        started = time.perf_counter()

        async def again() -> None:
            while (now := time.perf_counter()) < started + seconds:
                try:
                    await call(message, timeout=30)
                    ok = True
                except grpc.aio.AioRpcError:
                    ok = False
                measured.answered(time.perf_counter() - now, ok)

        await asyncio.gather(*(again() for _ in range(calls)))
        measured.seconds = time.perf_counter() - started
    return measured
