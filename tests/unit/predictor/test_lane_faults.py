"""What goes wrong in the lane or around it leaves no request without its answer."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import socket
import ssl
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.cluster.bed.certificates import Authority
from tests.fixtures.lane_server import (
    INFER,
    Server,
    http,
    message,
    read_answer,
    request,
    run,
    serving,
    undated,
)

from davy.predictor import handler as handler_module
from davy.predictor.admission import Limits, Speed
from davy.predictor.lane_protocol import LaneProtocol
from davy.predictor.metrics import PredictorMetrics
from davy.predictor.model import Model
from davy.predictor.payload import Exchange
from davy.predictor.plane import DataPlane


@pytest.fixture
def model(model: Model) -> Model:
    """Return the model with a speed of its own: what is slow here is not slow to others."""
    return replace(model, speed=Speed())


def chunked(body: bytes, *trailers: bytes, size: int = 1000, **headers: str) -> bytes:
    head = http(b"", transfer_encoding="chunked", **headers).replace(b"content-length: 0\r\n", b"")
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return head + chunks + b"0\r\n" + b"".join(line + b"\r\n" for line in trailers) + b"\r\n"


async def together(server: Server, sent: list[bytes]) -> list[bytes]:
    """Send each in a connection of its own, all in one turn of the loop."""
    connections = [await server.open() for _ in sent]
    for data, (_, writer) in zip(sent, connections, strict=True):
        writer.write(data)
    answers = [await read_answer(reader) for reader, _ in connections]
    for _, writer in connections:
        writer.close()
    return answers


@pytest.mark.parametrize(
    ("where", "step"),
    [
        (DataPlane, "count_together"),
        (DataPlane, "respond"),
        (PredictorMetrics, "request"),
        (PredictorMetrics, "waited"),
    ],
)
def test_a_fault_amid_many_leaves_none_without_an_answer(
    where: type, step: str, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("secret")

    async def go(server: Server) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(where, step, broken)
            answers = await together(server, [message(1 + n) for n in range(5)])
        assert all(answer.startswith((b"HTTP/1.1 500", b"HTTP/1.1 200")) for answer in answers)
        assert not any(b"secret" in answer for answer in answers)
        assert (await server.ask(message())).startswith(b"HTTP/1.1 200")

    # Whatever the machine: they are executed as one.
    run(go, model, limits=Limits(inline_seconds=60.0))


@pytest.mark.parametrize("step", ["executed", "waited"])
def test_a_fault_around_the_worker_thread_leaves_none_without_an_answer(
    step: str, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("secret")

    async def go(server: Server) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(PredictorMetrics, step, broken)
            answers = await together(server, [message(1 + n) for n in range(5)])
        assert all(answer.startswith((b"HTTP/1.1 500", b"HTTP/1.1 200")) for answer in answers)
        assert (await server.ask(message())).startswith(b"HTTP/1.1 200")

    run(go, model, limits=Limits(inline_seconds=-1.0))


def test_a_body_in_chunks_is_held_to_the_limit_too(model: Model) -> None:
    async def go(server: Server) -> None:
        sent = chunked(b" " * 100_001 + request()[0])
        assert (await server.ask(sent)).startswith(b"HTTP/1.1 413")

    run(go, model)


@pytest.mark.parametrize(
    "trailer", [b"davy-timeout-ms: 0", b"content-type: text/html", b"content-encoding: gzip"]
)
def test_what_follows_the_chunks_is_no_header(trailer: bytes, model: Model) -> None:
    sent = chunked(request()[0], trailer)

    async def go(server: Server) -> None:
        whole = await server.ask(sent)
        place = len(sent) - len(trailer)
        assert undated(whole) == undated(await server.ask(sent[:place], sent[place:]))
        assert whole.startswith(b"HTTP/1.1 200"), whole

    run(go, model)


@pytest.mark.parametrize(
    "lines",
    [
        "content-length: 5\r\ncontent-length: 5",
        "content-length: 5\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 5",
        "content-length: 5, 5",
        "content-length: +5",
        "content-length : 5",
        "a: b\r\n c\r\ncontent-length: 5",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity",
        "transfer-encoding: xchunked",
        "a: b\x00c\r\ncontent-length: 5",
        "a: b\rc: d\r\ncontent-length: 5",
    ],
)
def test_whose_length_is_in_doubt_is_refused_and_the_connection_ends(
    lines: str, model: Model
) -> None:
    smuggled = http(path="/v2/health/live", method="GET")

    async def go(server: Server) -> None:
        reader, writer = await server.open()
        writer.write(f"POST {INFER} HTTP/1.1\r\nhost: a\r\n{lines}\r\n\r\n".encode() + smuggled)
        answer = await asyncio.wait_for(reader.read(), 10)
        assert answer.startswith(b"HTTP/1.1 400")
        assert answer.count(b"HTTP/1.1 ") == 1
        assert server.taken == 0
        writer.close()

    run(go, model)


def test_a_space_after_a_number_is_not_of_it(model: Model) -> None:
    body = request()[0]

    async def go(server: Server) -> None:
        sent = http(body, length=f"{len(body)} ", davy_timeout_ms="60000 ")
        assert (await server.ask(sent)).startswith(b"HTTP/1.1 200")

    run(go, model)


SLOW = Limits(inline_seconds=-1.0)


class SlowModel:
    """Stands in for a model that takes long: sleeps in the worker thread before each execution."""

    def __init__(self, model: Model, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
        inner = Model.run

        def late(self: Model, *arguments: Any) -> Any:
            time.sleep(seconds)
            return inner(self, *arguments)

        monkeypatch.setattr(Model, "run", late)


def test_a_request_whose_head_came_in_two_turns_is_not_closed_for_resting(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its beginning came before the answer to the one before it."""

    async def go(server: Server) -> None:
        SlowModel(model, 2.5, monkeypatch)
        reader, writer = await server.open()
        second = message(id="second")
        writer.write(message(id="first") + second[:30])
        assert b"first" in await read_answer(reader)
        writer.write(second[30:])
        assert b"second" in await read_answer(reader)
        writer.close()

    run(go, model, limits=SLOW, timeout_keep_alive=1)


def test_a_server_that_ends_answers_what_waits_for_the_worker(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        SlowModel(model, 0.3, monkeypatch)
        async with serving(model, limits=SLOW) as server:
            connections = [await server.open() for _ in range(4)]
            for _, writer in connections:
                writer.write(message())
            # One connection with a request behind the one that waits.
            connections[0][1].write(message(id="behind"))
            while server.taken < 4:
                await asyncio.sleep(0.01)
            asks = [asyncio.create_task(reader.read()) for reader, _ in connections]
        answers = await asyncio.gather(*asks)
        assert [answer.count(b"HTTP/1.1 200") for answer in answers] == [2, 1, 1, 1]
        assert all(b"connection: close" in answer for answer in answers)
        for _, writer in connections:
            writer.close()

    asyncio.run(main())


def test_who_left_while_it_waited_for_the_worker_harms_nobody(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go(server: Server) -> None:
        SlowModel(model, 0.2, monkeypatch)
        for _ in range(3):
            _, writer = await server.open()
            writer.write(message() + message())
            await asyncio.sleep(0.05)
            writer.transport.abort()
        assert (await server.ask(message())).startswith(b"HTTP/1.1 200")

    run(go, model, limits=SLOW)


def test_who_only_writes_no_more_is_answered(model: Model) -> None:
    async def go(server: Server) -> None:
        reader, writer = await server.open()
        writer.write(message())
        writer.write_eof()
        assert (await read_answer(reader)).startswith(b"HTTP/1.1 200")
        writer.close()

    run(go, model, limits=Limits(inline_seconds=60.0))


def test_a_client_that_does_not_read_is_not_answered_into_memory(model: Model) -> None:
    async def go(server: Server) -> None:
        # What it asks for is far more than all buffers between the two hold.
        client = socket.create_connection(("127.0.0.1", server.port))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        sent, stalled = 0, 0
        data = message(1000)
        while stalled < 20 and sent < 100_000_000:
            try:
                sent += client.send(data[sent % len(data) :])
                stalled = 0
                await asyncio.sleep(0)
            except BlockingIOError:
                stalled += 1
                await asyncio.sleep(0.05)
        assert sent < 100_000_000
        assert (await server.ask(message())).startswith(b"HTTP/1.1 200")
        client.close()

    run(go, model)


def test_the_largest_number_of_requests_counts_those_of_the_lane(model: Model) -> None:
    async def main() -> None:
        async with serving(model, limit_max_requests=6) as server:
            reader, writer = await server.open()
            for _ in range(3):
                writer.write(message())
                await read_answer(reader)
            writer.write(message() * 3)
            for _ in range(3):
                await read_answer(reader)
            assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()

    asyncio.run(main())


@pytest.mark.parametrize("ended", [False, True])
def test_a_connection_keeps_nothing_of_what_was_answered(model: Model, *, ended: bool) -> None:
    padded = request(1, parameters={"more": "x" * 50_000})[0]

    def kept() -> int:
        return sum(
            len(protocol._body)
            for protocol in gc.get_objects()
            if isinstance(protocol, LaneProtocol)
        )

    async def go(server: Server) -> None:
        gc.collect()
        gc.disable()
        try:
            connections = [await server.open() for _ in range(3)]
            for reader, writer in connections:
                writer.write(http(padded))
                assert (await read_answer(reader)).startswith(b"HTTP/1.1 200")
            if ended:
                for _, writer in connections:
                    writer.close()
                await asyncio.sleep(0.1)
                assert not [one for one in gc.get_objects() if isinstance(one, LaneProtocol)]
            assert kept() == 0
            for _, writer in connections:
                writer.close()
        finally:
            gc.enable()

    run(go, model)


def test_a_deadline_that_passes_in_the_queue_is_told_once(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go(server: Server) -> None:
        SlowModel(model, 0.4, monkeypatch)
        late = http(request(id="late")[0], davy_timeout_ms="200")
        answers = await together(server, [message(id="first"), late])
        assert sorted(answer[9:12] for answer in answers) == [b"200", b"504"]
        assert server.count("davy_requests_total", outcome="ok") == 1
        assert server.count("davy_requests_total", outcome="timeout") == 1

    run(go, model, limits=SLOW)


def test_a_body_that_stops_half_way_is_answered_and_the_connection_ends(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handler_module, "BODY_SECONDS", 0.3)

    async def go(server: Server) -> None:
        for ahead in (b"", message()):
            reader, writer = await server.open()
            writer.write(ahead + message()[:-5])
            answer = await asyncio.wait_for(reader.read(), 10)
            assert answer.count(b"HTTP/1.1 408") == 1
            assert answer.count(b"HTTP/1.1 200") == bool(ahead)
            writer.close()

    run(go, model)


@pytest.mark.parametrize("inline", [60.0, -1.0])
def test_each_request_is_counted_and_logged_once(model: Model, inline: float) -> None:
    class Recording:
        ids: ClassVar[list[str]] = []

        def wants(self, request_id: str) -> bool:
            return True

        def put(self, exchange: Exchange) -> None:
            self.ids.append(json.loads(exchange.request.body)["id"])

    sink = Recording()
    sink.ids.clear()
    sent = [message(1 + n, id=f"r{n}") for n in range(6)]

    async def go(server: Server) -> None:
        for answer in await together(server, sent):
            assert answer.startswith(b"HTTP/1.1 200")
        # In two parts, and behind one another.
        await server.ask(sent[0][:-5], sent[0][-5:])
        reader, writer = await server.open()
        writer.write(b"".join(sent))
        for _ in sent:
            await read_answer(reader)
        writer.close()
        assert server.count("davy_requests_total", outcome="ok") == 13
        assert server.count("davy_queue_seconds_count") == 13
        assert server.count("davy_batch_rows_sum") == 21 + 1 + 21

    run(go, model, limits=Limits(inline_seconds=inline), sink=sink)
    assert sorted(sink.ids) == sorted(["r0", *(2 * [f"r{n}" for n in range(6)])])


def test_bodies_of_many_reads_are_answered(model: Model) -> None:
    large = request(60_000)[0]

    async def go(server: Server) -> None:
        answers = await together(server, [http(large), message(), http(large)])
        assert [answer[9:12] for answer in answers] == [b"200"] * 3

    run(go, model, max_body=len(large))


def test_the_lane_answers_through_tls_too(model: Model, tmp_path: Path) -> None:
    certificate, key = Authority(tmp_path).issue("here", "server")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    files = {"ssl_certfile": str(certificate), "ssl_keyfile": str(key)}

    async def go(server: Server) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
        for sent in ([message(id="a"), message(id="b")], [message(id="c")]):
            writer.write(b"".join(sent))
            for _ in sent:
                assert (await read_answer(reader)).startswith(b"HTTP/1.1 200")
        assert server.taken >= 2
        writer.close()

    run(go, model, **files)


PIECES = {
    "plain": message(id="a"),
    "rows": message(7, id="b"),
    "binary": message(3, binary=True, id="c", parameters={"binary_data_output": True}),
    "chunks": chunked(request(2, id="d")[0], b"x: y", size=50),
    "GET": http(path="/v2/models/tiny", method="GET"),
    "HEAD": http(path="/v2/health/ready", method="HEAD"),
    "explain": http(request(1, id="e")[0], "/v2/models/tiny/explain"),
    "bad": http(b"{"),
    "empty": http(),
    "no model": http(request(id="f")[0], "/v2/models/none/infer"),
    "type": http(request(id="g")[0], content_type="text/html"),
    "late": http(request(id="h")[0], davy_timeout_ms="0"),
    "query": http(request(id="i")[0], f"{INFER}?a=1"),
    "lines": b"\r\n\r\n" + message(id="j"),
}
ENDS = {
    "close": http(request(id="k")[0], connection="close"),
    "old": http(request(id="l")[0]).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
}
TIMES = re.compile(rb'"(seconds|elapsed)[^"]*": ?[0-9.e-]+')


def comparable(answers: bytes) -> bytes:
    return TIMES.sub(b"", undated(answers))


async def all_of(server: Server, sent: bytes, cuts: list[int]) -> bytes:
    """Send bytes in parts, each of which the server reads alone; return all that it says."""
    reader, writer = await server.open()
    edges = sorted({0, *(cut % len(sent) for cut in cuts), len(sent)})
    for start, end in pairwise(edges):
        writer.write(sent[start:end])
        await asyncio.sleep(0.001)
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    return answer


@given(
    names=st.lists(st.sampled_from(sorted(PIECES)), max_size=7),
    end=st.sampled_from(sorted(ENDS)),
    cuts=st.lists(st.integers(0, 10**6), min_size=1, max_size=12),
    threaded=st.booleans(),
)
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_however_requests_are_cut_the_answers_are_the_same(
    model: Model, names: list[str], end: str, cuts: list[int], threaded: bool
) -> None:
    sent = b"".join([*(PIECES[name] for name in names), ENDS[end]])
    limits = Limits(inline_seconds=-1.0) if threaded else Limits(inline_seconds=60.0)

    async def go(server: Server) -> None:
        lane, server.place.lane = server.place.lane, None
        theirs = comparable(await all_of(server, sent, []))
        server.place.lane = lane
        assert theirs.count(b"HTTP/1.1 ") == len(names) + 1
        assert comparable(await all_of(server, sent, [])) == theirs
        assert comparable(await all_of(server, sent, cuts)) == theirs
        assert server.count("davy_requests_total", outcome="ok") % 3 == 0

    run(go, model, limits=limits)
