"""Reloads in a real process, under load: nobody is refused, nobody gets no answer."""

import asyncio
import itertools
import json
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import numpy as np
import pytest

from davy.protocol.tensors import tensor
from davy.protocol.v2 import InferRequest, encode_request

pytestmark = pytest.mark.xdist_group("predictor")

REQUESTS = 20_000
RELOADS = 5


def body() -> bytes:
    columns = {
        "kind": np.array([3]),
        "amount": np.array([50], np.float32),
        "visits": np.ones(1, np.float32),
        "channel": np.array([1]),
    }
    return encode_request(InferRequest(tuple(tensor(n, d) for n, d in columns.items()))).body


def test_no_request_fails_over_reloads(
    predictor: ModuleType, load_client: ModuleType, tiny: ModuleType, tmp_path: Path
) -> None:
    packages = [tiny.write_tiny_package(tmp_path, weight=weight) for weight in (0.01, 0.02)]
    damaged = tiny.write_tiny_package(tmp_path, weight=0.03)
    (damaged.path / "card.md").write_text("other")
    versions = [package.contract.version for package in packages]
    settings = {"repository_api": "true", "repository_roots": json.dumps([str(tmp_path)])}

    async def go(url: str, client: Any) -> None:
        started = time.monotonic()
        deadline = started + 40

        def enough() -> bool:
            return len(client.answers) >= REQUESTS or time.monotonic() > deadline

        load = asyncio.create_task(client.closed(8, enough))
        async with httpx.AsyncClient(base_url=url, timeout=30) as operator:
            for turn in range(1, RELOADS + 1):
                while len(client.answers) < turn * REQUESTS // (RELOADS + 1) and not enough():
                    await asyncio.sleep(0.01)
                path = "/v2/repository/models/tiny/load"
                refused = await operator.post(path, json={"path": str(damaged.path)})
                assert refused.status_code == 422
                answer = await operator.post(path, json={"path": str(packages[turn % 2].path)})
                assert answer.json()["version"] == versions[turn % 2]
        await load
        client.close()

    with predictor.predictor_server(packages[0].path, tmp_path / "work", settings) as server:
        client = load_client.LoadClient(int(server.url.rpartition(":")[2]), body())
        asyncio.run(go(server.url, client))
        metrics = httpx.get(f"{server.url}/metrics").text
    assert len(client.answers) >= REQUESTS
    assert {told.status for told in client.answers} == {200}
    # In the order of answers each version has its turn; requests in flight end on the old one.
    order = [told.version for told in client.answers]
    assert set(order) == set(versions)
    turns = sum(one != other for one, other in itertools.pairwise(order))
    assert RELOADS <= turns <= RELOADS * 17
    served = f'version="{versions[RELOADS % 2]}"'
    info = [line for line in metrics.splitlines() if line.startswith("davy_model_info{")]
    assert {line.rpartition(" ")[2] for line in info if served in line} == {"1.0"}
    assert {line.rpartition(" ")[2] for line in info if served not in line} == {"0.0"}
