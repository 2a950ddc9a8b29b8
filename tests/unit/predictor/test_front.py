"""Which requests are ours, and that they come before BentoML's middleware."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from davy.predictor.front import Front, Place


class Watching:
    """Stands for BentoML's middleware: notes each path that it sees."""

    def __init__(self, app: Any, seen: list[str]) -> None:
        self._app = app
        self._seen = seen

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self._seen.append(scope["path"])
        await self._app(scope, receive, send)


def answering(text: str) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse(text)(scope, receive, send)

    return app


def application(place: Place, seen: list[str]) -> Starlette:
    async def theirs(request: Any) -> PlainTextResponse:
        return PlainTextResponse("theirs")

    return Starlette(
        routes=[Route(path, theirs) for path in ("/metrics", "/docs.json", "/v2x", "/v2/models")],
        middleware=[Middleware(Watching, seen=seen), Middleware(Front, place=place)],
    )


@pytest.mark.parametrize("path", ["/v2", "/v2/models", "/v2/models/net/infer"])
def test_v2_is_ours_and_passes_none_of_their_middleware(path: str) -> None:
    seen: list[str] = []
    with TestClient(application(Place(answering("ours")), seen)) as client:
        assert client.get(path).text == "ours"
    assert seen == []


@pytest.mark.parametrize("path", ["/metrics", "/docs.json", "/v2x"])
def test_the_rest_is_theirs(path: str) -> None:
    seen: list[str] = []
    with TestClient(application(Place(answering("ours")), seen)) as client:
        assert client.get(path).text == "theirs"
    assert seen == [path]


def test_until_the_model_is_ready_all_is_theirs() -> None:
    place = Place()
    seen: list[str] = []
    with TestClient(application(place, seen)) as client:
        assert client.get("/v2/models").text == "theirs"
        place.handler = answering("ours")
        assert client.get("/v2/models").text == "ours"
    assert seen == ["/v2/models"]


def test_where_it_cannot_step_forward_it_answers_from_behind() -> None:
    seen: list[str] = []
    # Without its lifespan, the application is never asked.
    client = TestClient(application(Place(answering("ours")), seen))
    assert client.get("/v2/models").text == "ours"
    assert seen == ["/v2/models"]


def test_it_steps_forward_once_however_often_the_application_starts() -> None:
    seen: list[str] = []
    app = application(Place(answering("ours")), seen)
    for _ in range(2):
        with TestClient(app) as client:
            assert client.get("/docs.json").text == "theirs"
    assert seen == ["/docs.json"] * 2
    assert isinstance(app.middleware_stack, Front)
    assert not isinstance(app.middleware_stack._app, Front)


def test_counts_are_handed_over_before_metrics_are_answered() -> None:
    asked: list[str] = []
    place = Place(before_metrics=lambda: asked.append("now"))
    with TestClient(application(place, [])) as client:
        client.get("/docs.json")
        assert asked == []
        client.get("/metrics")
    # Once where it stands now, once where BentoML put it: the second finds nothing to hand over.
    assert asked == ["now", "now"]
