"""What the detector is measured against: a bare endpoint that appends events to Parquet files.

It reads the same bodies with the libraries that anyone would take, and promises nothing: no
journal, no pairing, no ids remembered, no windows. ``python -m tests.benchmarks.detector_rival
FOLDER PORT``.
"""

from __future__ import annotations

import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

ROWS = 20_000
DTYPES = {"FP32": "<f4", "INT64": "<i8"}


class Appender:
    """Collects rows by kind, and writes them when they are enough."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._rows: dict[str, list[dict[str, Any]]] = {}
        self._files = 0

    async def take(self, request: Request) -> Response:
        """Take a batch."""
        for event in orjson.loads(await request.body()):
            body = b64decode(event["data_base64"])
            length = int(event["davyheaderlength"])
            header, at = orjson.loads(body[:length]), length
            row = {"id": event["id"], "time": event["time"]}
            for tensor in header.get("inputs") or header["outputs"]:
                size = tensor["parameters"]["binary_data_size"]
                row[tensor["name"]] = np.frombuffer(
                    body[at : at + size], DTYPES[tensor["datatype"]]
                )[0]
                at += size
            rows = self._rows.setdefault(event["type"], [])
            rows.append(row)
            if len(rows) >= ROWS:
                self.write(event["type"])
        return Response(status_code=202)

    def write(self, kind: str) -> None:
        """Write the rows of a kind."""
        rows = self._rows.pop(kind)
        table = pa.table({name: [row[name] for row in rows] for name in rows[0]})
        self._files += 1
        pq.write_table(table, self._folder / f"{self._files}.parquet")

    def close(self) -> None:
        """Write what is left."""
        for kind in list(self._rows):
            self.write(kind)


def main() -> None:
    """Serve until terminated."""
    appender = Appender(Path(sys.argv[1]))

    async def ready(_: Request) -> Response:
        return Response(status_code=200)

    app = Starlette(
        routes=[
            Route("/", appender.take, methods=["POST"]),
            Route("/health/ready", ready),
        ]
    )
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
    appender.close()


if __name__ == "__main__":
    main()
