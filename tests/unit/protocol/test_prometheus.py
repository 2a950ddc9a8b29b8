"""Whatever Prometheus, or who stands at its address, answers."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from davy.core.errors import UnavailableError
from davy.protocol.prometheus import instant_query


def ask(answer: Any, status: int = 200) -> list[dict[str, Any]]:
    def handle(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/api/v1/query"
        if isinstance(answer, Exception):
            raise answer
        body = {"text": answer} if isinstance(answer, str) else {"json": answer}
        return httpx.Response(status, **body)

    http = httpx.Client(base_url="http://here", transport=httpx.MockTransport(handle))
    return instant_query(http, "up", where="here", unreachable="start it", refused="mend it")


def test_a_result_is_returned_as_it_came() -> None:
    series = [{"metric": {}, "value": [1, "2"]}]
    assert ask({"status": "success", "data": {"result": series}}) == series


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("<html>", "does not answer.*start it"),
        (httpx.ConnectError("no"), "does not answer.*start it"),
        ([], "another language.*start it"),
        ({"status": "error", "error": "a parse error"}, "refuses.*a parse error.*mend it"),
        ({"status": "success"}, "without a result.*start it"),
        ({"status": "success", "data": {"result": None}}, "without a result.*start it"),
    ],
)
def test_anything_else_is_named(answer: Any, said: str) -> None:
    with pytest.raises(UnavailableError, match=f"here.*{said}"):
        ask(answer)
