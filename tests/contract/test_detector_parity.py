"""The detector as a process executes logged requests again, and says what came of them."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import httpx
from tests.fixtures.logged_server import LoggedServer
from tests.fixtures.tiny_package import write_watched_package

from davy.protocol.events import BATCH_CONTENT_TYPE, encode_batch

REQUESTS = 40


def counted(text: str, result: str) -> float | None:
    found = re.search(rf'^davy_parity_checks_total{{.*result="{result}".*}} (\S+)$', text, re.M)
    return None if found is None else float(found[1])


def test_spoilt_answers_are_told_from_those_of_the_package(tmp_path: Path) -> None:
    server = LoggedServer(write_watched_package(tmp_path))
    pairs = [
        server.serve(str(number), factor=1.01 if number % 4 == 0 else 1.0)
        for number in range(REQUESTS)
    ]
    log = tmp_path / "log"
    environment = {
        **os.environ,
        "DAVY_DETECTOR_STORE": str(tmp_path / "store"),
        "DAVY_DETECTOR_PORT": "0",
        "DAVY_DETECTOR_ENGINE": "native",
        "DAVY_DETECTOR_REPLAY_SHARE": "1",
    }
    with log.open("wb") as file:
        process = subprocess.Popen(
            [Path(sys.executable).parent / "davy", "detector", "serve"],
            env=environment,
            stderr=file,
            stdout=file,
        )
    try:
        address = eventually(lambda: re.search(r"http://[0-9.:]+", log.read_text()), process)
        with httpx.Client(base_url=address[0], trust_env=False) as client:
            eventually(lambda: client.get("/health/ready").status_code == 200, process)
            events = [
                replace(event, namespace="shop", service="tiny")
                for pair in pairs
                for event in (pair.response, pair.request)
            ]
            headers = {"content-type": BATCH_CONTENT_TYPE}
            assert client.post("/", content=encode_batch(events), headers=headers).is_success

            def told() -> str | None:
                text = client.get("/metrics").text
                seen = (counted(text, "same") or 0) + (counted(text, "different") or 0)
                return text if seen == REQUESTS else None

            text = eventually(told, process)
        assert (counted(text, "same"), counted(text, "different")) == (30, 10)
        (line, *_) = re.findall(r"^davy_parity_checks_total.*$", text, re.M)
        assert f'version="{server.version}"' in line
        assert 'namespace="shop"' in line
        assert 'serving_kserve_io_inferenceservice="tiny"' in line
        assert "served_otherwise" in log.read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
    finally:
        process.kill()
        process.wait()


def eventually(told, process, seconds=120):
    until = time.monotonic() + seconds
    while True:
        try:
            if found := told():
                return found
        except httpx.HTTPError:
            pass
        assert process.poll() is None, "the detector ended"
        assert time.monotonic() < until, "did not come about"
        time.sleep(0.05)
