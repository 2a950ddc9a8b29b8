"""The benchmark's client against small servers: what counts as answered, what ends it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
import pytest
from tests.benchmarks.serving.load import GRPC_METHOD, Client, Measured, grpc_closed

ASK = b"GET / HTTP/1.1\r\n\r\n"


@asynccontextmanager
async def server(statuses: list[int]) -> AsyncIterator[int]:
    """Answer with these statuses in turn; close the connection at a status of 0."""
    turn = itertools.cycle(statuses)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                status = next(turn)
                if not status:
                    break
                writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n".encode())
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


async def closed(client: Client) -> Measured:
    return await client.closed([ASK], 2, 0.1)


async def opened(client: Client) -> Measured:
    return await client.opened(ASK, 400.0, 0.2, connections=2)


def measured(statuses: list[int], load: Callable[[Client], object]) -> Measured:
    async def run() -> Measured:
        async with server(statuses) as port:
            client = Client(port)
            try:
                return await load(client)  # type: ignore[misc,no-any-return]
            finally:
                client.close()

    return asyncio.run(run())


@pytest.mark.parametrize("load", [closed, opened])
def test_only_a_200_has_a_latency(load) -> None:
    found = measured([200, 503, 200, 429], load)
    assert found.failed > 1
    assert abs(len(found.latencies) - found.failed) <= 1
    assert found.ended == len(found.latencies) + found.failed


@pytest.mark.parametrize("load", [closed, opened])
def test_a_server_that_only_refuses_has_no_throughput(load) -> None:
    found = measured([503], load)
    assert found.latencies == []
    assert found.failed > 1


@pytest.mark.parametrize("load", [closed, opened])
def test_a_closed_connection_ends_the_measurement_at_once(load) -> None:
    with pytest.raises(ConnectionError):
        measured([200, 200, 200, 0], load)


def test_a_call_that_fails_has_no_latency() -> None:
    turn = itertools.count()

    async def answer(message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        if next(turn) % 2:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        return message

    async def run() -> Measured:
        service, _, method = GRPC_METHOD.strip("/").partition("/")
        handler = grpc.unary_unary_rpc_method_handler(answer)
        made = grpc.aio.server()
        made.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {method: handler}),)
        )
        port = made.add_insecure_port("127.0.0.1:0")
        await made.start()
        try:
            return await grpc_closed(port, b"x", 2, 0.1)
        finally:
            await made.stop(None)

    found = asyncio.run(run())
    assert found.failed > 1
    assert abs(len(found.latencies) - found.failed) <= 2
