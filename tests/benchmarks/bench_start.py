"""From start to ready, and what an image weighs: writes the table of ``services/README.md``.

``python -m tests.benchmarks.bench_start IMAGE``, where IMAGE is what ``davy package image`` built
by Buildah, measures it and, in turns with it, ``bentoml serve`` from the checkout.

The image is run as a cluster would (`tests.benchmarks.container`), with Kubernetes' variables of
Services.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from tests.benchmarks.container import (
    RUNTIME,
    Mount,
    bundle_config,
    require,
    run_command,
    unpacked,
    weight,
)
from tests.benchmarks.environment import inherited
from tests.benchmarks.page import ROOT, Block
from tests.benchmarks.serving.processes import kill
from tests.fixtures.predictor_server import free_port

BLOCK = Block(ROOT / "services/README.md", "image")
WAIT_SECONDS = 60
# The default of DAVY_PREDICTOR_DRAIN_SECONDS.
DRAIN_SECONDS = 1.0
READY = "/v2/health/ready"
PACKAGE = "app/bento/src/package"
# Of a Service beside the pod whose name has the prefix of the settings.
LINKS = {
    "DAVY_PREDICTOR_SERVICE_HOST": "10.96.0.7",
    "DAVY_PREDICTOR_SERVICE_PORT": "80",
    "DAVY_PREDICTOR_PORT": "tcp://10.96.0.7:80",
    "DAVY_PREDICTOR_PORT_80_TCP": "tcp://10.96.0.7:80",
    "DAVY_PREDICTOR_PORT_80_TCP_PROTO": "tcp",
    "DAVY_PREDICTOR_PORT_80_TCP_PORT": "80",
    "DAVY_PREDICTOR_PORT_80_TCP_ADDR": "10.96.0.7",
}


@dataclass(frozen=True, slots=True)
class Start:
    """One start.

    Attributes
    ----------
    seconds, cpu : float
        Until the first 200 from readiness: of the clock, and spent by all its processes.
    memory : float
        Proportional set size of all its processes then, MB.
    end : float
        Seconds from SIGTERM to the end of the process.
    answered, lost : int
        Requests while it drained that were answered 200, and that were not.
    """

    seconds: float
    cpu: float
    memory: float
    end: float
    answered: int
    lost: int


@dataclass(frozen=True, slots=True)
class Server:
    """What is started: its address, its first process, and those whose work counts."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def family(self) -> list[psutil.Process]:
        """Return BentoML's processes: a container's first one is a child of the runtime."""
        everybody = [psutil.Process(self.process.pid)]
        everybody += everybody[0].children(recursive=True)
        return [member for member in everybody if member.name() not in RUNTIME]


def launch(command: Sequence[str], port: int, environment: Mapping[str, str], log: Path) -> Server:
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, env=environment, stdout=file, stderr=subprocess.STDOUT, cwd=log.parent
        )
    return Server(f"http://127.0.0.1:{port}", process, log)


def measure(server: Server, begun: float) -> Start:
    """Wait until it is ready, have it answer, end it while it is asked."""
    try:
        with httpx.Client(base_url=server.url, timeout=10) as client:
            _until_ready(server, client, begun)
            seconds = time.monotonic() - begun
            family = server.family()
            cpu = sum(sum(member.cpu_times()[:2]) for member in family)
            memory = sum(member.memory_full_info().pss for member in family) / 1e6
            ask(client)
        answered, lost, end = _end(server, family[0])
        return Start(seconds, cpu, memory, end, answered, lost)
    finally:
        kill(server.process)


def _until_ready(server: Server, client: httpx.Client, begun: float) -> None:
    while server.process.poll() is None and time.monotonic() - begun < WAIT_SECONDS:
        try:
            if client.get(READY).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.01)
    sys.exit(f"error: not ready:\n{server.log.read_text()[-3000:]}")


def ask(client: httpx.Client) -> None:
    """Have the example of the model's own page scored and explained: both reach every library."""
    page = client.get("/openapi.json").json()
    for path, operations in page["paths"].items():
        if path.endswith(("/infer", "/explain")) and "/versions/" not in path:
            content = operations["post"]["requestBody"]["content"]
            answer = client.post(path, json=content["application/json"]["example"])
            if answer.status_code != 200:
                sys.exit(f"error: {path}: {answer.status_code} {answer.text[:300]}")
    if "davy_requests_total" not in client.get("/metrics").text:
        sys.exit("error: /metrics: no davy_requests_total")


def _end(server: Server, first: psutil.Process) -> tuple[int, int, float]:
    """Send SIGTERM and go on asking, on new connections, for most of the time that it drains."""
    first.send_signal(signal.SIGTERM)
    begun, answered, lost = time.monotonic(), 0, 0
    while time.monotonic() - begun < 0.9 * DRAIN_SECONDS:
        try:
            ok = httpx.get(f"{server.url}/v2", timeout=10).status_code == 200
        except httpx.TransportError:
            ok = False
        if ok:
            answered += 1
        else:
            lost += 1
    if server.process.wait(WAIT_SECONDS) != 0:
        sys.exit(f"error: ended with {server.process.returncode}")
    return answered, lost, time.monotonic() - begun


def of_the_checkout(package: Path, work: Path) -> Start:
    """``bentoml serve``, as the demo runs it."""
    port = free_port()
    environment = inherited() | {
        "DAVY_PREDICTOR_MODEL_DIR": str(package),
        "BENTOML_HOME": str(work / "bentoml"),
        "OMP_NUM_THREADS": "1",
    }
    service = "davy.predictor.service:Predictor"
    program = str(Path(sys.executable).with_name("bentoml"))
    command = [program, "serve", service, "--host=127.0.0.1", f"--port={port}"]
    begun = time.monotonic()
    return measure(launch(command, port, environment, work / "log"), begun)


def of_the_image(root: Path, about: Mapping[str, Any], work: Path, package: Path | None) -> Start:
    """The image; as KServe runs it where `package` is mounted instead of its own."""
    port = free_port()
    hosts = work / "hosts"
    hosts.write_text("127.0.0.1 localhost\n")
    mounts = {"/etc/hosts": Mount(hosts)}
    variables = {"PORT": str(port), **LINKS}
    if package is not None:
        mounts["/mnt/models"] = Mount(package)
        variables["STORAGE_URI"] = "pvc://models/tiny"
    config = bundle_config(root, about, variables, mounts, arguments=("--host", "127.0.0.1"))
    command = run_command(config, work, f"start-{port}")
    begun = time.monotonic()
    return measure(launch(command, port, os.environ, work / "log"), begun)


def table(rows: Mapping[str, Sequence[Start]], sizes: Mapping[str, float]) -> str:
    """Return the block of the README."""
    total = sum(sizes.values())
    parts = ", ".join(f"{name} {size:.0f}" for name, size in sizes.items())
    lines = [
        "| started | ready after (s) | of CPU (s) | memory (MB) | SIGTERM to end (s) "
        "| requests lost while it drains |",
        "|---|---|---|---|---|---|",
    ]
    for name, starts in rows.items():
        seconds = [start.seconds for start in starts]
        median = {
            field: statistics.median(getattr(start, field) for start in starts)
            for field in ("seconds", "cpu", "memory", "end")
        }
        lines.append(
            f"| {name} | {median['seconds']:.2f} ({min(seconds):.2f}–{max(seconds):.2f}) "
            f"| {median['cpu']:.2f} | {median['memory']:.0f} | {median['end']:.1f} "
            f"| {sum(start.lost for start in starts)} of "
            f"{sum(start.lost + start.answered for start in starts)} |"
        )
    runs = len(next(iter(rows.values())))
    load = os.getloadavg()[0]
    lines += [
        "",
        f"Image unpacked: {total:.0f} MB ({parts}). Median of {runs} starts (least–most), "
        f"{os.cpu_count()} cores at load {load:.1f}; memory is that of supervisor and worker "
        "together. Written by `make bench-image`.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and with an image write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("image", help="image that 'davy package image' built by buildah")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    BLOCK.check()
    require()
    rows: dict[str, list[Start]] = {
        "`bentoml serve`, from the checkout": [],
        "the image": [],
        "the image, as KServe runs it": [],
    }
    with (
        tempfile.TemporaryDirectory(prefix="davy-start-") as scratch,
        unpacked(arguments.image) as (root, about),
    ):
        work = Path(scratch)
        package = work / "package"
        shutil.copytree(root / PACKAGE, package)
        # In turns, so that a busy moment of the machine meets all of them.
        for _ in range(arguments.runs):
            checkout, image, kserve = rows.values()
            checkout.append(of_the_checkout(package, work))
            image.append(of_the_image(root, about, work, None))
            kserve.append(of_the_image(root, about, work, root / PACKAGE))
        libraries, bento = weight(root / "app" / "venv"), weight(root / "app" / "bento")
        sizes = {
            "Debian and Python": weight(root) - libraries - bento,
            "libraries": libraries,
            "code and package": bento,
        }
    text = table(rows, sizes)
    sys.stdout.write(f"{text}\n")
    BLOCK.write(text)


if __name__ == "__main__":
    main()
