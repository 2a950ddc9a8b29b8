"""Two worker processes behind one port: both answer, and their counts are one."""

from __future__ import annotations

import json
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.mmap_dict import MmapedDict
from tests.fixtures.predictor_server import predictor_server
from tests.fixtures.tiny_package import write_tiny_package

pytestmark = pytest.mark.xdist_group("predictor")

REQUESTS = 60
AT_ONCE = 4
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


def answered_by(worker: psutil.Process) -> float:
    """Return what one worker wrote down for the others, in the file that holds its own counts."""
    supervisor = worker.ppid()
    (folder,) = Path(tempfile.gettempdir()).glob(f"davy-predictor-*-{supervisor}")
    file = folder / f"counter_{worker.pid}.db"
    if not file.exists():
        return 0.0
    found = 0.0
    for key, value, *_ in MmapedDict.read_all_values_from_file(str(file)):
        _, name, labels, _ = json.loads(key)
        if name == "davy_requests_total" and labels["outcome"] == "ok":
            found += value
    return found


def ask(url: str) -> int:
    # A connection each: which worker takes it is the system's choice.
    return httpx.post(f"{url}{INFER}", json=ROW, timeout=30).status_code


def test_both_workers_answer_and_their_counts_are_one(tmp_path: Path) -> None:
    package = write_tiny_package(tmp_path)
    with predictor_server(package.path, tmp_path / "server", {"workers": "2"}) as server:
        workers = psutil.Process(server.process.pid).children()
        assert len(workers) == 2
        asked = 0
        deadline = time.monotonic() + 30
        # The second may still be starting, and one that is idle is often quicker than the other.
        while not (asked and all(answered_by(worker) for worker in workers)):
            assert time.monotonic() < deadline, [answered_by(worker) for worker in workers]
            with ThreadPoolExecutor(AT_ONCE) as pool:
                statuses = list(pool.map(ask, [server.url] * REQUESTS))
            assert statuses == [200] * REQUESTS
            asked += REQUESTS
            time.sleep(0.2)
        deadline = time.monotonic() + 5
        while answered(server.url) < asked and time.monotonic() < deadline:
            time.sleep(0.1)
        assert answered(server.url) == asked
        info = httpx.get(f"{server.url}/metrics").text
        assert sum(line.startswith("davy_model_info{") for line in info.splitlines()) == 1
