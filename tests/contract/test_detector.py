"""The detector as a process, with a real package, events as the predictor sends them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from tests.fixtures.watched_package import WINDOW, exchange, write_watched_package

from davy.protocol.events import BATCH_CONTENT_TYPE, encode_batch


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(store, port, log, engine="native"):
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "DAVY_DETECTOR_STORE": str(store),
        "DAVY_DETECTOR_PORT": str(port),
        "DAVY_DETECTOR_ENGINE": engine,
    }
    with log.open("wb") as file:
        return subprocess.Popen(
            [Path(sys.executable).parent / "davy", "detector", "serve"],
            env=environment,
            stderr=file,
            stdout=file,
        )


def wait(condition, process, seconds=150):
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = condition()
        except httpx.HTTPError:
            found = None
        if found:
            return found
        assert process.poll() is None, "the detector ended"
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("engine", ["alibi", "native"])
def test_a_quiet_stream_stays_quiet_and_a_broken_one_is_active_within_two_windows(tmp_path, engine):
    package = write_watched_package(tmp_path)
    version = package.contract.version
    port, log = free_port(), tmp_path / "log"
    process = start(tmp_path / "store", port, log, engine)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            wait(lambda: client.get("/health/ready").status_code == 200, process)
            rng = np.random.default_rng(11)

            def send(requests, broken):
                for first in range(0, requests, 50):
                    events = [
                        event
                        for number in range(first, first + 50)
                        for event in exchange(rng, number, version, broken)
                    ]
                    headers = {"content-type": BATCH_CONTENT_TYPE}
                    answer = client.post("/", content=encode_batch(events), headers=headers)
                    assert answer.status_code == 202

            def windows(count):
                (one, *_) = client.get("/windows").json()["versions"] or [{"windows": []}]
                return one if len(one["windows"]) >= count else None

            send(4 * WINDOW, broken=False)
            quiet = wait(lambda: windows(4), process)
            assert [w["status"] for w in quiet["windows"]].count("drift") <= 1
            assert quiet["active"] == []
            send(2 * WINDOW, broken=True)
            found = wait(lambda: windows(6), process)
            active = {(item["feature"], item["detector"]) for item in found["active"]}
            assert active == {("popularity", "missing"), ("price", "ks")}
            assert found["windows"][4]["status"] == "drift"
            metrics = client.get("/metrics").text
        arm = f'model="watched",version="{version}"'
        assert f'davy_drift_active{{detector="ks",feature="price",{arm}}} 1.0' in metrics
        assert f"davy_window_rows{{{arm}}} {float(WINDOW)}" in metrics
        lint = subprocess.run(
            ["promtool", "check", "metrics"],
            input=metrics,
            text=True,
            capture_output=True,
            check=False,
        )
        ours = [line for line in lint.stderr.splitlines() if line.startswith("davy_")]
        assert ours == []
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    assert [line["event"] for line in lines].count("window") == 6
    assert lines[-1]["event"] == "stopped"


def test_a_port_in_use_is_one_line_and_its_exit_code(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        log = tmp_path / "log"
        process = start(tmp_path, taken.getsockname()[1], log)
        assert process.wait(150) == 73
    assert "the port is in use. Set DAVY_DETECTOR_PORT to a free one" in log.read_text()
