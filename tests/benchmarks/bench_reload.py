"""Requests that fail while a predictor's package is replaced under load: none.

``python -m tests.benchmarks.bench_reload`` writes its line into services/davy/predictor/README.md;
with arguments (``REQUESTS [RELOADS]``) it only prints. One `bentoml serve` process, eight
connections that ask again as soon as they are answered, reloads spread over the run.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
from tests.benchmarks.page import ROOT, Block
from tests.fixtures.load_client import LoadClient, percentile
from tests.fixtures.predictor_server import predictor_server
from tests.fixtures.tiny_package import write_tiny_package

from davy.protocol.tensors import tensor
from davy.protocol.v2 import InferRequest, encode_request

BLOCK = Block(ROOT / "services/davy/predictor/README.md", "reload")
CONNECTIONS = 8


def body() -> bytes:
    """Return one row for the tiny model."""
    columns = {
        "kind": np.array([3]),
        "amount": np.array([50], np.float32),
        "visits": np.ones(1, np.float32),
        "channel": np.array([1]),
    }
    return encode_request(InferRequest(tuple(tensor(n, d) for n, d in columns.items()))).body


async def measure(
    url: str, client: LoadClient, paths: list[Path], requests: int, turns: int
) -> None:
    """Ask `requests` times while the package is replaced `turns` times."""
    load = asyncio.create_task(client.closed(CONNECTIONS, lambda: len(client.answers) >= requests))
    async with httpx.AsyncClient(base_url=url, timeout=60) as operator:
        for turn in range(1, turns + 1):
            while len(client.answers) < turn * requests // (turns + 1):
                await asyncio.sleep(0.01)
            path = str(paths[turn % len(paths)])
            answer = await operator.post("/v2/repository/models/tiny/load", json={"path": path})
            answer.raise_for_status()
    await load
    client.close()


def main(requests: int = 100_000, turns: int = 20, *, write: bool = False) -> int:
    """Print the figures; 1 when a request failed."""
    if write:
        BLOCK.check()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        paths = [write_tiny_package(work, weight=weight).path for weight in (0.01, 0.02)]
        settings = {"repository_api": "true", "repository_roots": json.dumps([folder])}
        with predictor_server(paths[0], work / "server", settings) as server:
            client = LoadClient(int(server.url.rpartition(":")[2]), body())
            started = time.perf_counter()
            asyncio.run(measure(server.url, client, paths, requests, turns))
            seconds = time.perf_counter() - started
    count = Counter(told.status for told in client.answers)
    failed = len(client.answers) - count[200]
    times = [told.seconds for told in client.answers]
    line = (
        f"{len(times):,} requests over {turns} reloads in {seconds:.0f} s: {failed} failed; "
        f"p50 {percentile(times, 0.5) * 1e3:.1f} ms, p99 {percentile(times, 0.99) * 1e3:.1f} ms, "
        f"slowest {max(times) * 1e3:.0f} ms.\n"
    )
    sys.stdout.write(line)
    if write:
        BLOCK.write(line)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*(int(argument) for argument in sys.argv[1:]), write=len(sys.argv) == 1))
