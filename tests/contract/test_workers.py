"""Two worker processes behind one port: both answer, and their counts are one."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import psutil
from tests.fixtures.predictor_server import predictor_server
from tests.fixtures.tiny_package import write_tiny_package

REQUESTS = 60
INFER = "/v2/models/tiny/infer"
ROW = {
    "inputs": [
        {"name": name, "datatype": datatype, "shape": [1], "data": [value]}
        for name, datatype, value in (
            ("kind", "INT64", 3),
            ("amount", "FP32", 50),
            ("visits", "FP32", 1),
            ("channel", "INT64", 1),
        )
    ]
}


def answered(url: str) -> float:
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith("davy_requests_total{") and 'outcome="ok"' in line
    )


def test_counts_of_both_workers_are_one(tmp_path: Path) -> None:
    package = write_tiny_package(tmp_path)
    with predictor_server(package.path, tmp_path / "server", {"workers": "2"}) as server:
        workers = psutil.Process(server.process.pid).children()
        assert len(workers) == 2
        # A connection each: which worker takes it is the system's choice.
        for _ in range(REQUESTS):
            assert httpx.post(f"{server.url}{INFER}", json=ROW).status_code == 200
        deadline = time.monotonic() + 5
        while answered(server.url) < REQUESTS and time.monotonic() < deadline:
            time.sleep(0.1)
        assert answered(server.url) == REQUESTS
        info = httpx.get(f"{server.url}/metrics").text
        assert sum(line.startswith("davy_model_info{") for line in info.splitlines()) == 1
