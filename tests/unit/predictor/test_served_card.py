"""The card as it is served."""

import asyncio
from collections.abc import Callable

import httpx
import pytest

from davy.packaging.package import Package
from davy.predictor.card import form
from davy.predictor.handler import Handler


def get(handler: Handler, path: str, accept: str | None = None) -> httpx.Response:
    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(handler)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://predictor") as client:
            del client.headers["accept"]
            return await client.get(path, headers={"accept": accept} if accept else {})

    return asyncio.run(go())


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", "text/html"),
        ("*/*", "text/html"),
        ("text/markdown", "text/markdown"),
        ("text/html, text/markdown", "text/html"),
        ("text/html;q=0.2, text/markdown", "text/markdown"),
        ("text/*;q=0.9, text/html;q=0.1", "text/markdown"),
        ("text/markdown;q=x", "text/html"),
        ("application/json", "text/html"),
    ],
)
def test_html_unless_markdown_is_liked_better(accept: str, media_type: str) -> None:
    assert form(accept) == media_type


@pytest.mark.parametrize(
    ("accept", "media_type", "file"),
    [(None, "text/html", "card.html"), ("text/markdown", "text/markdown", "card.md")],
)
def test_the_card_is_the_packages(
    make_handler: Callable[..., Handler],
    package: Package,
    accept: str | None,
    media_type: str,
    file: str,
) -> None:
    handler = make_handler()
    for path in ("card", f"versions/{package.contract.version}/card"):
        answer = get(handler, f"/v2/models/tiny/{path}", accept)
        assert answer.status_code == 200
        assert answer.headers.get_list("content-type") == [f"{media_type}; charset=utf-8"]
        assert answer.content == (package.path / file).read_bytes()
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none';")
        assert "sandbox" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["davy-model-version"] == package.contract.version


def test_no_card_of_another_model(make_handler: Callable[..., Handler]) -> None:
    assert get(make_handler(), "/v2/models/other/card").status_code == 404
