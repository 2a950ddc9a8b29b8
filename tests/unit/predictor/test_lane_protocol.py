"""Requests through uvicorn's own server: the lane's answers are the server's, byte for byte."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from tests.fixtures.lane_server import (
    INFER,
    Server,
    http,
    message,
    read_answer,
    request,
    run,
    undated,
)

from davy.predictor import lane as lane_module
from davy.predictor.admission import Limits
from davy.predictor.catalogue import Catalogue
from davy.predictor.front import Front, Place
from davy.predictor.model import Model
from davy.predictor.payload import Exchange
from davy.predictor.plane import DataPlane
from davy.protocol.v2 import RequestedOutput

ANSWERED = {
    "JSON": message(),
    "one row": message(1),
    "binary": message(binary=True),
    "binary out": message(parameters={"binary_data_output": True}),
    "one output": message(outputs=(RequestedOutput("score", binary=True),)),
    "the version in the path": http(request()[0], "/v2/models/tiny/versions/VERSION/infer"),
    "time enough": http(request()[0], davy_timeout_ms="60000"),
}
REFUSED = {
    "no JSON": http(b"{"),
    "no body": http(),
    "no rows": message(0),
    "too large": http(b"x" * 100_001),
    "another content type": http(b"{}", content_type="text/html"),
    "gzip": http(b"{}", content_encoding="gzip"),
    "a header that lies": http(b"{}", inference_header_content_length="3"),
    "no number": http(b"{}", inference_header_content_length="-1"),
    "no time": http(request()[0], davy_timeout_ms="0"),
    "no such output": message(outputs=(RequestedOutput("none"),)),
    "id too long": message(id="x" * 257),
}


@pytest.mark.parametrize("name", [*ANSWERED, *REFUSED])
def test_a_whole_request_is_answered_as_one_in_parts(name: str, model: Model) -> None:
    sent = {**ANSWERED, **REFUSED}[name].replace(b"VERSION", model.contract.version.encode())
    place = sent.index(b"\r\n\r\n") + 4

    async def go(server: Server) -> None:
        whole = await server.ask(sent)
        assert server.taken == 1
        parts = [sent[:place], sent[place:]] if len(sent) > place else [sent[:9], sent[9:]]
        split = await server.ask(*parts)
        assert server.taken == 1 + (len(sent) == place)
        assert undated(whole) == undated(split)
        status = b"200" if name in ANSWERED else b"504" if name == "no time" else b"4"
        assert whole.startswith(b"HTTP/1.1 " + status)

    run(go, model)


OTHERS = {
    "GET": http(path="/v2/models/tiny", method="GET"),
    "HEAD": http(path="/v2/health/ready", method="HEAD"),
    "another method": http(method="PUT"),
    "no such model": http(b"{}", "/v2/models/none/infer"),
    "no such version": http(b"{}", "/v2/models/tiny/versions/2/infer"),
    "no such path": http(b"{}", "/v2/models/tiny/infere"),
    "an explanation": http(request(1)[0], "/v2/models/tiny/explain"),
    "a query": http(request()[0], f"{INFER}?a=1"),
    "an escaped path": http(request()[0], "/v2/models/%74iny/infer"),
    "close": http(request()[0], connection="close"),
    "HTTP/1.0": http(request()[0]).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    "chunks": http(b"", transfer_encoding="chunked").replace(b"content-length: 0\r\n", b"")
    + b"%x\r\n%s\r\n0\r\n\r\n" % (len(request()[0]), request()[0]),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_plain_inference_is_answered_too(name: str, model: Model) -> None:
    async def go(server: Server) -> None:
        reader, writer = await server.open()
        writer.write(OTHERS[name])
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        expected = b"HTTP/1.1 40" if name.startswith(("no such", "another")) else b"HTTP/1.1 200"
        assert head.startswith(expected), head
        writer.close()

    run(go, model)


def test_the_server_asks_for_a_body_that_waits_to_be_asked_for(model: Model) -> None:
    async def go(server: Server) -> None:
        reader, writer = await server.open()
        body = request()[0]
        writer.write(http(b"", length=str(len(body)), expect="100-continue"))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await read_answer(reader)).startswith(b"HTTP/1.1 200")
        writer.close()

    run(go, model)


def test_requests_of_one_connection_are_answered_in_their_order(model: Model) -> None:
    sent = [message(1 + place % 3, id=f"r{place}") for place in range(7)]
    sent.insert(3, http(path="/v2/models/tiny", method="GET"))

    async def go(server: Server) -> None:
        reader, writer = await server.open()
        writer.write(b"".join(sent))
        answers = [await read_answer(reader) for _ in sent]
        writer.write(sent[0])
        answers.append(await read_answer(reader))
        ids = [re.search(rb'"id":"(r\d)"', answer) for answer in answers]
        found = [match[1] if match else b"" for match in ids]
        assert found == [b"r0", b"r1", b"r2", b"", b"r3", b"r4", b"r5", b"r6", b"r0"]
        writer.close()

    run(go, model)


def test_requests_read_together_are_executed_together(model: Model) -> None:
    """Their scores and counts are those of requests that came alone."""

    async def go(server: Server) -> None:
        alone = [
            undated(await server.ask(message(1 + place, id=f"r{place}"))) for place in range(5)
        ]
        connections = [await server.open() for _ in range(5)]
        before = server.count("davy_batch_rows_count")
        for place, (_, writer) in enumerate(connections):
            writer.write(message(1 + place, id=f"r{place}"))
        answers = [undated(await read_answer(reader)) for reader, _ in connections]
        for _, writer in connections:
            writer.close()
        assert answers == alone
        after = server.count("davy_batch_rows_count")
        assert after - before < 5
        assert server.count("davy_requests_total", outcome="ok") == 10
        assert server.count("davy_queue_seconds_count") == 10
        assert server.count("davy_batch_rows_sum") == 30

    run(go, model)


def test_what_would_take_long_is_executed_beside_the_loop(model: Model) -> None:
    async def go(server: Server) -> None:
        answers = await asyncio.gather(*(server.ask(message(1 + n)) for n in range(6)))
        assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
        assert server.taken == 6

    run(go, model, limits=Limits(inline_seconds=0.0))


def test_who_comes_while_too_much_waits_is_told_when_to_come_again(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.speed, "per_call", 5.0)

    async def go(server: Server) -> None:
        answers = await asyncio.gather(*(server.ask(message(1 + n)) for n in range(6)))
        told = [answer for answer in answers if answer.startswith(b"HTTP/1.1 503")]
        assert told
        assert all(b"retry-after: " in answer for answer in told)
        shed = server.count("davy_requests_total", outcome="shed")
        assert shed == len(told)

    run(go, model)


def test_a_draining_server_answers_and_closes(model: Model) -> None:
    async def go(server: Server) -> None:
        assert server.place.handler is not None
        server.place.handler.draining = True
        reader, writer = await server.open()
        writer.write(message())
        assert b"connection: close" in await read_answer(reader)
        assert await reader.read() == b""
        assert server.taken == 1
        writer.close()

    run(go, model)


def test_a_client_that_left_harms_nobody(model: Model) -> None:
    async def go(server: Server) -> None:
        _, writer = await server.open()
        # Without a wait between them: the end is read in the turn of the request.
        writer.write(message())
        writer.transport.abort()
        _, half = await server.open()
        half.write(message()[:-5])
        await half.drain()
        half.transport.abort()
        assert (await server.ask(message())).startswith(b"HTTP/1.1 200")

    run(go, model)


def test_a_connection_that_rests_is_closed_in_its_time(model: Model) -> None:
    async def go(server: Server) -> None:
        reader, writer = await server.open()
        for _ in range(3):
            writer.write(message())
            await read_answer(reader)
            await asyncio.sleep(0.6)
        assert await asyncio.wait_for(reader.read(), 3) == b""
        writer.close()

    run(go, model, timeout_keep_alive=1)


@pytest.mark.parametrize("path", [INFER, "/v2/models/tiny/explain"])
def test_a_connection_in_use_is_not_closed_for_resting(model: Model, path: str) -> None:
    sent = http(request(1)[0], path)

    async def go(server: Server) -> None:
        reader, writer = await server.open()
        for half in (len(sent), len(sent) - 5, 30):
            writer.write(sent[:half])
            await asyncio.sleep(0 if half == len(sent) else 1.3)
            writer.write(sent[half:])
            assert (await read_answer(reader)).startswith(b"HTTP/1.1 200")
        writer.close()

    run(go, model, timeout_keep_alive=1)


def test_a_model_that_left_since_the_headers_came_is_said_so(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go(server: Server) -> None:
        lane = server.place.lane
        assert lane is not None
        assert (await server.ask(message())).startswith(b"HTTP/1.1 200")
        server.models.catalogue = Catalogue(())
        answer = await server.ask(message())
        assert answer.startswith(b"HTTP/1.1 404")
        assert b"no such model" in answer

    run(go, model)


def test_an_unforeseen_fault_is_answered(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: DataPlane, *_: Any) -> Any:
        raise RuntimeError("secret")

    async def go(server: Server) -> None:
        for step in ("prepare", "respond"):
            with monkeypatch.context() as patch:
                patch.setattr(DataPlane, step, broken)
                answer = await server.ask(message())
            assert answer.startswith(b"HTTP/1.1 500")
            assert b"secret" not in answer
        assert (await server.ask(message())).startswith(b"HTTP/1.1 200")

    run(go, model)


def test_the_payload_log_is_told(model: Model) -> None:
    class Recording:
        def __init__(self) -> None:
            self.exchanges: list[Exchange] = []

        def wants(self, request_id: str) -> bool:
            return request_id != "quiet"

        def put(self, exchange: Exchange) -> None:
            self.exchanges.append(exchange)

    sink = Recording()

    async def go(server: Server) -> None:
        await server.ask(message(id="loud", binary=True))
        await server.ask(message(id="quiet"))

    run(go, model, sink=sink)
    [exchange] = sink.exchanges
    body, headers = request(id="loud", binary=True)
    assert exchange.request == (body, int(headers["inference_header_content_length"]))


def test_addresses_that_are_remembered_stay_few(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_module, "MAX_ROUTES", 2)

    async def go(server: Server) -> None:
        lane = server.place.lane
        assert lane is not None
        version = model.contract.version
        for ending in ("/infer", f"/versions/{version}/infer", "/infer/", "/infer//"):
            assert lane.route(b"/v2/models/tiny" + ending.encode()) is not None
            assert len(lane._routes) <= 2

    run(go, model)


@pytest.mark.parametrize("config", [{"root_path": "/x"}, {"limit_concurrency": 100}])
def test_a_server_with_what_the_lane_does_not_know_answers_itself(
    config: dict[str, Any], model: Model
) -> None:
    async def go(server: Server) -> None:
        await server.ask(message())
        assert server.taken == 0

    run(go, model, **config)


def test_another_protocol_is_left_as_it_is(model: Model) -> None:
    """Of a server that reads HTTP in another way."""

    class TheirConfig:
        http_protocol_class = object

    class TheirLifespan:
        config = TheirConfig()

        async def receive(self) -> Any: ...

    theirs = TheirLifespan()

    async def app(*_: Any) -> None: ...

    scope = {"type": "lifespan"}
    asyncio.run(Front(app, Place())(scope, theirs.receive, app))
    assert theirs.config.http_protocol_class is object
