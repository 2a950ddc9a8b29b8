"""What the detector takes in a second, what it holds, and what a window costs.

``python -m tests.benchmarks.bench_detector`` writes its table into
services/davy/detector/README.md; ``--quick`` takes fewer events and only prints. The detector has
one core and everything on: journal, pairing, windows, archive. The rival has it in turn: a bare
Starlette endpoint that reads the same bodies and appends them to Parquet files, and promises
nothing (`tests.benchmarks.detector_rival`).

On a machine with other work the rate by the clock says little; what a CPU second does is the rate
on a core that it has for itself.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import psutil
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from tests.benchmarks.environment import inherited
from tests.benchmarks.page import ROOT, Block
from tests.fixtures import tiny_package
from tests.fixtures.payload_events import exchange_events
from tests.fixtures.predictor_server import free_port

from davy.detector.packages import FolderPackages
from davy.detector.settings import DetectorSettings
from davy.drift.null import null_distances
from davy.packaging.package import Package, write_package
from davy.protocol.events import BATCH_CONTENT_TYPE, encode_batch

Engine = Literal["native", "alibi"]
ENGINES: dict[str, Engine] = {"the native engine": "native", "alibi-detect": "alibi"}
BLOCK = Block(ROOT / "services/davy/detector/README.md", "bench")
NUMBERS, CATEGORIES, CLASSES = 44, 6, 8
WINDOW = 400
BATCH = 32
SENDERS = 4
# A place in every body where the number of the batch goes, so that no id comes twice.
MARK = b"@@@@@@@@"
START_SECONDS = 120


def columns(rng: np.random.Generator, rows: int) -> dict[str, npt.NDArray[Any]]:
    """Return rows of fifty features."""
    numbers = {f"number_{n:02d}": rng.normal(n, 1, rows).astype(np.float32) for n in range(NUMBERS)}
    classes = {f"class_{n}": rng.integers(0, CLASSES, rows) for n in range(CATEGORIES)}
    return {**numbers, **classes}


def doubled(rows: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Return the rows as a detector takes them: numbers in double precision."""
    return {n: v.astype(float) if v.dtype.kind == "f" else v for n, v in rows.items()}


def make_package(folder: Path) -> Package:
    """Write a package with fifty features whose windows are tested by 51 tests and more."""
    rng = np.random.default_rng(1)
    blocks = {
        week: {**columns(rng, 1200), "score": rng.random(1200).astype(np.float32)}
        for week in range(4)
    }
    doubles = {week: doubled(block) for week, block in blocks.items()}
    nulls = null_distances(doubles, window_rows=WINDOW, draws_per_block=60, rng=rng)
    whole = {name: np.concatenate([block[name] for block in blocks.values()]) for name in blocks[0]}
    folder.mkdir()
    reference, model = folder / "reference.parquet", folder / "model.onnx"
    pq.write_table(pa.table({**whole, "block": np.repeat(np.arange(4), 1200)}), reference)
    model.write_bytes(b"never opened: nothing is replayed here")
    contract = tiny_package.contract(
        name="wide",
        task="wide",
        inputs=[
            {"name": name, "datatype": "INT64" if values.dtype.kind == "i" else "FP32"}
            for name, values in columns(rng, 1).items()
        ],
        calibration={
            "window_rows": WINDOW,
            "blocks": 4,
            "nulls": [
                {
                    "feature": feature,
                    "detector": detector,
                    "distances": distances.tolist(),
                    "floor": 0.15,
                }
                for (feature, detector), distances in nulls.items()
            ],
        },
    )
    files = {"model.onnx": model, "reference.parquet": reference}
    return write_package(folder / "store", contract, files, private_key=None)


def template(version: str, seed: int) -> bytes:
    """Return a batch as the predictor posts it, with `MARK` in each id."""
    rng = np.random.default_rng(seed)
    events = []
    for number in range(BATCH):
        inputs = columns(rng, 1)
        events += exchange_events(
            f"{MARK.decode()}-{number}",
            inputs,
            rng.random(1).astype(np.float32),
            model="wide",
            version=version,
            sample_rate=1.0,
        )
    return encode_batch(events)


@dataclass(slots=True)
class Run:
    """What was measured of one server."""

    name: str
    events: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    waits: list[float] = field(default_factory=list)
    refused: int = 0
    memory: list[float] = field(default_factory=list)
    rows: int = 0

    @property
    def by_cpu(self) -> float:
        """Events that a CPU second took."""
        return self.events / self.cpu

    @property
    def by_clock(self) -> float:
        """Events a second of the clock."""
        return self.events / self.seconds


@contextmanager
def served(
    command: list[str], environment: dict[str, str], log: Path, port: int
) -> Iterator[psutil.Process]:
    """Run a server on one core and yield it once it is ready."""
    pinned = ["taskset", "-c", "0", *command]
    with log.open("wb") as file:
        process = subprocess.Popen(pinned, env=environment, stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not ready(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.1)
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def ready(port: int) -> bool:
    """Tell whether a server says that it is ready."""
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def load(run: Run, process: psutil.Process, port: int, templates: list[bytes], events: int) -> None:
    """Post batches from several senders, each as soon as its last is answered."""
    batches = iter(range(events // (2 * BATCH)))
    lock = threading.Lock()

    def send() -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=120)
        while True:
            with lock:
                number = next(batches, None)
            if number is None:
                break
            body = templates[number % len(templates)].replace(MARK, b"%08d" % number)
            while True:
                began = time.perf_counter()
                connection.request("POST", "/", body, {"content-type": BATCH_CONTENT_TYPE})
                answer = connection.getresponse()
                answer.read()
                if answer.status != 429:
                    break
                run.refused += 1
                time.sleep(0.05)
            if answer.status != 202:
                raise RuntimeError(f"HTTP {answer.status}")
            run.waits.append(time.perf_counter() - began)
            run.events += 2 * BATCH
        connection.close()

    senders = [threading.Thread(target=send) for _ in range(SENDERS)]
    before, began = process.cpu_times(), time.perf_counter()
    for sender in senders:
        sender.start()
    step = 1
    while any(sender.is_alive() for sender in senders):
        if run.events >= step * events / 10:
            run.memory.append(process.memory_info().rss / 2**20)
            step += 1
        time.sleep(0.02)
    run.seconds = time.perf_counter() - began
    after = process.cpu_times()
    run.cpu = after.user + after.system - before.user - before.system
    run.memory.append(process.memory_info().rss / 2**20)


def detector(work: Path, package: Package, events: int, *, archive: bool) -> Run:
    """Measure the detector with everything on, or without its archive."""
    run = Run("Davy's detector" if archive else "Davy's detector without an archive")
    folder = work / f"detector-{archive}"
    folder.mkdir()
    port = free_port()
    environment = {
        **inherited(),
        "OMP_NUM_THREADS": "1",
        "DAVY_DETECTOR_STORE": str(package.path.parents[1]),
        "DAVY_DETECTOR_PORT": str(port),
        "DAVY_DETECTOR_ENGINE": "native",
        "DAVY_DETECTOR_STATE": str(folder / "state"),
        "DAVY_DETECTOR_REPLAY_SHARE": "0",
        "DAVY_DETECTOR_LOG_LEVEL": "WARNING",
        **({"DAVY_DETECTOR_ARCHIVE": str(folder / "archive")} if archive else {}),
    }
    command = [str(Path(sys.executable).with_name("davy")), "detector", "serve"]
    templates = [template(package.contract.version, seed) for seed in range(8)]
    with served(command, environment, folder / "log", port) as process:
        load(run, process, port, templates, events)
        counted = wait_counted(port, run.events // 2)
    if counted != run.events // 2:
        raise RuntimeError(f"{run.events // 2} requests were acknowledged and {counted} counted")
    if archive:
        run.rows = rows_after(work, folder, environment, port, command, run.events // 2)
        if run.rows != run.events // 2:
            raise RuntimeError(f"{run.events // 2} rows were acknowledged, {run.rows} written")
    return run


def rows_after(
    work: Path, folder: Path, environment: dict[str, str], port: int, command: list[str], rows: int
) -> int:
    """Start it again so that it writes what it held, and return the rows of the archive."""
    quick = {**environment, "DAVY_DETECTOR_ARCHIVE_SECONDS": "0.1"}
    with served(command, quick, work / "log-again", port):
        # It reads its journal again first.
        deadline = time.monotonic() + 300
        while (found := rows_in(folder / "archive")) < rows and time.monotonic() < deadline:
            time.sleep(0.5)
    table = ds.dataset(folder / "archive", partitioning="hive").to_table(["davy_request_id"])
    if len(table["davy_request_id"].unique()) != found:
        raise RuntimeError(f"{found} rows are in the archive, and some of them twice")
    return found


def rows_in(archive: Path) -> int:
    """Return the rows of an archive."""
    return int(ds.dataset(archive, partitioning="hive").count_rows())


def wait_counted(port: int, requests: int) -> int:
    """Return how many requests were counted, once they are all or nothing more comes."""
    name = b"davy_detector_events_total{"
    found, since = -1, time.monotonic()
    while found < requests and time.monotonic() - since < 60:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().splitlines()
        connection.close()
        told = [line for line in lines if line.startswith(name) and b'type="request"' in line]
        now = sum(int(float(line.rsplit(b" ", 1)[1])) for line in told)
        if now > found:
            found, since = now, time.monotonic()
        time.sleep(0.2)
    return found


def rival(work: Path, version: str, events: int) -> Run:
    """Measure the bare endpoint."""
    run = Run("bare endpoint, Parquet only")
    port = free_port()
    folder = work / "rival"
    command = [sys.executable, "-m", "tests.benchmarks.detector_rival", str(folder), str(port)]
    environment = {**inherited(), "OMP_NUM_THREADS": "1"}
    templates = [template(version, seed) for seed in range(8)]
    with served(command, environment, work / "rival.log", port) as process:
        load(run, process, port, templates, events)
    run.rows = int(ds.dataset(folder).count_rows())
    return run


def window_cost(package: Package, engine: Engine) -> tuple[float, int]:
    """Return the median seconds of a window's tests, and how many tests those are."""
    settings = DetectorSettings(store=package.path.parents[1], engine=engine)
    subject = FolderPackages(settings).load(package.contract.version)
    rng = np.random.default_rng(7)
    times = []
    tests = 0
    for _ in range(21):
        window = {
            **{
                n: v.astype(float) if v.dtype.kind == "f" else v
                for n, v in columns(rng, WINDOW).items()
            },
            "score": rng.random(WINDOW),
        }
        began = time.process_time()
        tests = len(subject.detector.test(window).features)
        times.append(time.process_time() - began)
    return statistics.median(times[1:]), tests


def waited(run: Run, share: float) -> float:
    """Return a quantile of the senders' waits, in milliseconds."""
    return float(np.quantile(run.waits, share)) * 1e3


def report(runs: list[Run], costs: dict[str, tuple[float, int]], busy: tuple[float, float]) -> str:
    """Return the page's text."""
    ours, bare = runs[0], runs[-1]
    lines = [
        f"Events of {NUMBERS + CATEGORIES} features, one row each, {2 * BATCH} to a batch as the "
        f"predictor posts them, {SENDERS} senders; the server is held to one core. The machine's "
        f"load average was {busy[0]:.1f} before and {busy[1]:.1f} after, on {os.cpu_count()} "
        "cores. "
        "Everything that the detector acknowledged was counted once, and is in the archive once.",
        "",
        "| | events in a CPU second | events a second by the clock | acknowledged in, median / 99 %"
        " | memory after each tenth, MiB |",
        "|---|---|---|---|---|",
    ]
    for run in runs:
        lines.append(
            f"| {run.name} ({run.events:,} events) | {run.by_cpu:,.0f} | {run.by_clock:,.0f} | "
            f"{waited(run, 0.5):.0f} / {waited(run, 0.99):.0f} ms | "
            f"{' '.join(f'{size:.0f}' for size in run.memory[:10])} |"
        )
    cost = ", ".join(
        f"{seconds * 1e3:.0f} ms of CPU with {engine} ({tests} tests)"
        for engine, (seconds, tests) in costs.items()
    )
    lines += [
        "",
        f"The detector takes {ours.by_cpu / bare.by_cpu:.2f} times what the bare endpoint takes in "
        f"a CPU second. A window of {WINDOW} rows costs {cost}.",
    ]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Measure, print, and write the page unless it was quick."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="30,000 events, only printed")
    parser.add_argument("--events", type=int, default=1_000_000)
    options = parser.parse_args(arguments)
    events = 30_000 if options.quick else options.events
    if not options.quick:
        BLOCK.check()
    before = os.getloadavg()[0]
    measured: list[Callable[[Path, Package], Run]] = [
        lambda work, package: detector(work, package, events, archive=True),
        lambda work, package: detector(
            work, package, max(events // 4, 2 * BATCH * SENDERS), archive=False
        ),
        lambda work, package: rival(
            work, package.contract.version, max(events // 4, 2 * BATCH * SENDERS)
        ),
    ]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        package = make_package(work / "package")
        runs = [measure(work, package) for measure in measured]
        costs = {name: window_cost(package, engine) for name, engine in ENGINES.items()}
    text = report(runs, costs, (before, os.getloadavg()[0]))
    sys.stdout.write(f"{text}\n")
    if not options.quick:
        BLOCK.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
