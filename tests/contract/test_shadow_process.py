"""Two real predictors and a real detector: a candidate answers what the stable one was asked."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import httpx
from tests.fixtures.predictor_server import predictor_server
from tests.fixtures.tiny_package import write_watched_package

from davy.protocol.shadow import TOLERANCES
from davy.rollout.adapters.shadow_file import ShadowFile
from davy.rollout.series import Arms

Found = TypeVar("Found")


@contextmanager
def detector(folder: Path) -> Iterator[tuple[str, Path]]:
    """Run a detector; return its address and its log."""
    log = folder / "detector.log"
    environment = {
        **os.environ,
        "DAVY_DETECTOR_STORE": str(folder / "store"),
        "DAVY_DETECTOR_PORT": "0",
        "DAVY_DETECTOR_ENGINE": "native",
        "DAVY_DETECTOR_SHADOW_TARGETS": str(folder / "shadow.json"),
        "DAVY_DETECTOR_SHADOW_PER_SECOND": "1000",
    }
    with log.open("wb") as file:
        process = subprocess.Popen(
            [Path(sys.executable).parent / "davy", "detector", "serve"],
            env=environment,
            stderr=file,
            stdout=file,
        )
    try:
        address = eventually(lambda: re.search(r"http://[0-9.:]+", log.read_text()))
        yield address[0], log
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
    finally:
        process.kill()
        process.wait()


def ask(url: str, number: int) -> None:
    columns = {
        "kind": ("INT64", number % 6),
        "amount": ("FP32", float(number % 50)),
        "visits": ("FP32", 3.0),
        "channel": ("INT64", 1),
    }
    inputs = [
        {"name": name, "datatype": kind, "shape": [1], "data": [value]}
        for name, (kind, value) in columns.items()
    ]
    body = {"id": f"{time.monotonic_ns()}-{number}", "inputs": inputs}
    answer = httpx.post(f"{url}/v2/models/tiny/infer", json=body, timeout=20, trust_env=False)
    assert answer.status_code == 200, answer.text


def counted(address: str, name: str, label: str = "") -> float:
    text = httpx.get(f"{address}/metrics", timeout=20, trust_env=False).text
    found = re.findall(rf"^davy_{name}_total{{.*{re.escape(label)}.*}} (\S+)$", text, re.M)
    return sum(map(float, found))


def test_a_candidate_answers_copies_until_it_serves(tmp_path: Path) -> None:
    stable = write_watched_package(tmp_path)
    candidate = write_watched_package(tmp_path, weight=0.04, task="again")
    arms = Arms(stable.contract.version, candidate.contract.version)
    with ExitStack() as running:
        address, log = running.enter_context(detector(tmp_path))
        logging = {"payload_url": address, "payload_sample_rate": "1"}
        one, other = (
            running.enter_context(predictor_server(package.path, tmp_path / name, logging)).url
            for name, package in (("stable", stable), ("candidate", candidate))
        )
        mirror = ShadowFile(tmp_path / "shadow.json", {arms.canary: [other]})
        mirror.begin(arms)
        asked = iter(range(10_000))

        def answered() -> float:
            for _ in range(5):
                ask(one, next(asked))
            return counted(address, "shadow_requests", 'outcome="answered"')

        eventually(lambda: answered() >= 20)
        # The candidate's own log tells of the copies, too, and that does not end them.
        eventually(
            lambda: (
                counted(address, "detector_events", f'version="{arms.canary}"') >= 10
                and answered() >= 40
            )
        )
        assert counted(address, "shadow_requests", 'outcome="failed"') == 0
        assert counted(address, "shadow_requests", f'version="{arms.canary}"') >= 40
        apart = [counted(address, "shadow_different", f'above="{t:g}"') for t in TOLERANCES]
        assert apart == sorted(apart, reverse=True)
        assert apart[0] > 20
        assert apart[-1] == 0
        assert counted(address, "parity_checks", 'result="different"') == 0
        # A person is served by it.
        ask(other, next(asked))
        eventually(lambda: answered() >= 0 and "candidate_serves" in log.read_text())
        before = counted(address, "shadow_requests")
        for _ in range(3):
            answered()
            time.sleep(0.2)
        assert counted(address, "shadow_requests") - before <= 1, "one may have been on its way"
        mirror.end(arms)


def eventually(told: Callable[[], Found], seconds: float = 100) -> Found:
    until = time.monotonic() + seconds
    while True:
        try:
            if found := told():
                return found
        except httpx.TransportError:
            pass
        assert time.monotonic() < until, "did not come about"
        time.sleep(0.1)
