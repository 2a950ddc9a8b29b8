"""The detector as a process that is killed while events arrive, and events as bytes on the wire."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import numpy as np
import pytest
from tests.contract.test_detector import exchange, free_port, wait, write_watched_package

from davy.protocol.events import BATCH_CONTENT_TYPE, encode_batch

# The headers that KServe's agent was seen to send: no version among them, the id in `Ce-Id`.
KSERVE = (
    "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Go-http-client/1.1\r\n"
    "Content-Length: {length}\r\nCe-Component: predictor\r\nCe-Endpoint: \r\n"
    "Ce-Id: 6f9a2c1e-8f0d-4b57-9c39-27b1a2f0c9d4\r\nCe-Inferenceservicename: watched\r\n"
    "Ce-Metadata: {{}}\r\nCe-Namespace: shop\r\nCe-Recordedtime: 2026-11-25T09:27:04.123456789Z\r\n"
    "Ce-Source: http://localhost:9081/\r\nCe-Specversion: 1.0\r\n"
    "Ce-Time: 2026-11-25T09:27:04.123456789Z\r\n"
    "Ce-Type: org.kubeflow.serving.inference.{kind}\r\nContent-Type: application/json\r\n"
    "Connection: close\r\nAccept-Encoding: gzip\r\n\r\n"
)
ASKED = (
    b'{"id":"1","inputs":[{"name":"price","shape":[2],"datatype":"FP32","data":[2.5,3.0]},'
    b'{"name":"popularity","shape":[2],"datatype":"FP32","data":[0.1,0.2]},'
    b'{"name":"department","shape":[2],"datatype":"INT64","data":[1,2]}]}'
)
# One event of the predictor's own log, alone, as it goes over the wire.
OURS = (
    "POST / HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {length}\r\nconnection: close\r\n"
    "content-type: application/octet-stream\r\nce-specversion: 1.0\r\nce-id: a%20b\r\n"
    "ce-type: org.kubeflow.serving.inference.{kind}\r\nce-source: /davy/predictor/watched\r\n"
    "ce-time: 2026-11-25T09:27:04.123456+00:00\r\nce-inferenceservicename: watched\r\n"
    "ce-davyversion: {version}\r\nce-davysamplerate: 0.1\r\nce-davyheaderlength: {header}\r\n\r\n"
)
ASKED_BINARY = (
    b'{"inputs":[{"name":"price","datatype":"FP32","shape":[1],'
    b'"parameters":{"binary_data_size":4}},'
    b'{"name":"popularity","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":4}},'
    b'{"name":"department","datatype":"INT64","shape":[1],"parameters":{"binary_data_size":8}}]}'
)
ANSWERED_BINARY = (
    b'{"model_name":"watched","model_version":"%s","outputs":[{"name":"score","datatype":"FP32",'
    b'"shape":[1],"parameters":{"binary_data_size":4}}]}'
)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return write_watched_package(tmp_path_factory.mktemp("package"))


@pytest.fixture
def detector(package, tmp_path):
    """Return a function that starts a detector on the same folder and port."""
    started = []
    port = free_port()

    def start():
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "DAVY_DETECTOR_STORE": str(package.path.parents[1]),
            "DAVY_DETECTOR_PORT": str(port),
            "DAVY_DETECTOR_ENGINE": "native",
            "DAVY_DETECTOR_STATE": str(tmp_path / "state"),
        }
        with (tmp_path / "log").open("ab") as log:
            process = subprocess.Popen(
                [Path(sys.executable).parent / "davy", "detector", "serve"],
                env=environment,
                stdout=log,
                stderr=log,
            )
        started.append(process)
        url = f"http://127.0.0.1:{port}"
        ready = f"{url}/health/ready"
        wait(lambda: httpx.get(ready, trust_env=False).status_code == 200, process)
        return process, url

    yield start
    for process in started:
        process.kill()
        process.wait()


def counted(url, version):
    metrics = httpx.get(f"{url}/metrics", trust_env=False).text
    found = dict.fromkeys(("request", "response"), 0)
    for kind in found:
        name = f'davy_detector_events_total{{model="watched",type="{kind}",version="{version}"}} '
        for line in metrics.splitlines():
            if line.startswith(name):
                found[kind] = int(float(line.removeprefix(name)))
    return [found["request"], found["response"]]


def send(url, content):
    with socket.create_connection(("127.0.0.1", httpx.URL(url).port), timeout=60) as wire:
        wire.sendall(content)
        return wire.makefile("rb").readline()


def test_killed_under_load_it_has_lost_nothing_acknowledged_and_counts_nothing_twice(
    detector, package
):
    version = package.contract.version
    process, url = detector()
    rng = np.random.default_rng(5)
    bodies = [
        encode_batch(
            event
            for number in range(first, first + 10)
            for event in exchange(rng, number, version, broken=False)
        )
        for first in range(0, 600, 10)
    ]
    acknowledged = []
    posting = iter(list(enumerate(bodies)))
    lock = threading.Lock()
    headers = {"content-type": BATCH_CONTENT_TYPE}

    def post():
        with httpx.Client(trust_env=False, timeout=60) as client:
            while True:
                with lock:
                    number, body = next(posting, (None, b""))
                if number is None:
                    return
                try:
                    answer = client.post(url, content=body, headers=headers)
                except httpx.HTTPError:
                    return
                if answer.status_code == 202:
                    acknowledged.append(number)
                if len(acknowledged) == 25:
                    process.kill()

    senders = [threading.Thread(target=post) for _ in range(3)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert process.wait(60) == -9
    assert 25 <= len(acknowledged) < 60

    process, url = detector()
    # One body that was on the disk may have been killed before its answer: at most one a sender.
    least, most = 10 * len(acknowledged), 10 * (len(acknowledged) + 3)
    found = wait(lambda: (c := counted(url, version))[0] >= least and c, process)
    assert found[0] == found[1] <= most
    for body in bodies:
        while httpx.post(url, content=body, headers=headers, trust_env=False).status_code == 429:
            pass
    wait(lambda: counted(url, version)[0] >= 600, process)
    assert counted(url, version) == [600, 600]


def test_events_of_kserves_logger_and_of_ours_as_bytes_on_the_wire(detector, package):
    version = package.contract.version
    process, url = detector()
    answered = (
        '{"model_name":"watched","model_version":"VERSION","id":"1","outputs":[{"name":"score",'
        '"datatype":"FP32","shape":[2],"data":[0.25,0.5]}]}'
    )
    answered = answered.replace("VERSION", version).encode()
    for kind, body in (("request", ASKED), ("response", answered)):
        head = KSERVE.format(length=len(body), kind=kind)
        assert send(url, head.encode() + body) == b"HTTP/1.1 202 Accepted\r\n"
    wait(lambda: counted(url, version) == [1, 1], process)
    values = np.array([2.5, 0.1], "<f4").tobytes() + np.array([3], "<i8").tobytes()
    answer = ANSWERED_BINARY % version.encode()
    for kind, header, rest in (
        ("request", ASKED_BINARY, values),
        ("response", answer, np.array([0.5], "<f4").tobytes()),
    ):
        head = OURS.format(
            length=len(header) + len(rest), kind=kind, header=len(header), version=version
        )
        assert send(url, head.encode() + header + rest) == b"HTTP/1.1 202 Accepted\r\n"
    wait(lambda: counted(url, version) == [2, 2], process)
    (seen,) = httpx.get(f"{url}/windows", trust_env=False).json()["versions"]
    assert (seen["version"], seen["rows"]) == (version, 2)
