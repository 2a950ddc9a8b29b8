"""The pager of the demo: takes what Alertmanager sends to its receivers.

Belongs here: one small web server. Not here: what the alerts mean.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from davy.cli.demo.ports import HOST


class Pager:
    """Listens while it is open and keeps every notification.

    Parameters
    ----------
    port : int
        Port on the loopback address.
    """

    def __init__(self, port: int) -> None:
        self._messages: list[dict[str, Any]] = []
        app = Starlette(routes=[Route("/{receiver}", self._take, methods=["POST"])])
        self._server = uvicorn.Server(
            uvicorn.Config(app, host=HOST, port=port, log_level="error", lifespan="off")
        )
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Pager:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=5)

    def _serve(self) -> None:
        asyncio.run(self._server.serve())

    async def _take(self, request: Request) -> Response:
        self._messages.append(await request.json())
        return Response(status_code=200)

    def features(self, alert: str) -> set[str]:
        """Return the features that notifications of an alert named so far."""
        return {
            item["labels"].get("feature", "")
            for message in list(self._messages)
            for item in message["alerts"]
            if item["status"] == "firing" and item["labels"]["alertname"] == alert
        }
