"""What serving costs, beside what else could serve the same model: one run, interleaved rounds.

``python -m tests.benchmarks.bench_serving`` writes its tables into services/README.md;
``--quick`` only sees whether everything runs; ``--only davy,starlette`` leaves the others out, and
``--json FILE`` keeps every measurement: none of these writes a table.

Servers are on the first core and the client is on the second, where there are two.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import uvloop
from grpc.aio import AioRpcError
from tests.benchmarks.environment import NotInstalledError
from tests.benchmarks.serving import figures, report
from tests.benchmarks.serving.figures import Cell, percentile
from tests.benchmarks.serving.fleet import DAVY, KSERVE, RAW, Fleet, Rival
from tests.benchmarks.serving.found import (
    METHODS,
    Broken,
    Found,
    grpc_case,
    is_two,
    one,
    open_case,
    raw_case,
    two,
)
from tests.benchmarks.serving.load import Client, Measured, grpc_closed
from tests.benchmarks.serving.processes import NotStartedError, start
from tests.benchmarks.serving.workload import (
    MAIN,
    NAME,
    Case,
    cases,
    make_rows,
    write_net_package,
)
from tests.fixtures.predictor_server import free_port

from davy.protocol.grpc_codec import encode_request
from davy.protocol.tensors import tensor
from davy.protocol.v2 import InferRequest

# What a start with two workers has after the name of its server.
TWO = "_2"
GRPC_ROWS = (1, 100)
GRPC_CALLS = 8
LOADS = (0.5, 0.8)
WORKER_CASES = (Case(1, "json", 64), Case(1000, "binary", 64), Case(1000, "json", 64))


@dataclass(frozen=True, slots=True)
class Effort:
    """How long each thing is measured."""

    rounds: int = 3
    seconds: float = 0.4
    main_rounds: int = 5
    main_seconds: float = 1.0
    open_seconds: float = 1.5
    warm_seconds: float = 0.05
    # The first calls of a channel are several times slower than those after a few hundred.
    grpc_warm_seconds: float = 0.5


QUICK = Effort(
    rounds=1,
    seconds=0.05,
    main_rounds=1,
    main_seconds=0.1,
    open_seconds=0.1,
    warm_seconds=0.01,
    grpc_warm_seconds=0.01,
)


@dataclass(slots=True)
class Bench:
    """One run and what it found."""

    effort: Effort
    fleet: Fleet
    found: Found
    client_core: int | None

    async def cell(
        self, rival: Rival, case: Case, number: int, seconds: float, name: str = ""
    ) -> None:
        """Measure one server in one case once."""
        messages = rival.ask(case)
        if not messages:
            return
        client = Client(rival.port)
        try:
            await self._take(
                rival,
                str(case),
                number,
                lambda: client.closed(messages, case.connections, self.effort.warm_seconds),
                lambda: client.closed(messages, case.connections, seconds),
                name,
            )
        finally:
            client.close()

    async def opened(self, rival: Rival, share: float, number: int) -> None:
        """Measure latency at a share of what the server reached with 64 connections."""
        busiest = figures.absolute(
            self.found.cells, rival.name, str(Case(1, "json", 64)), lambda c: c.rate
        )
        messages = rival.ask(MAIN)
        if busiest is None or not messages:
            return
        rate = share * busiest.median
        client = Client(rival.port)
        try:
            await self._take(
                rival,
                open_case(share),
                number,
                lambda: client.closed(messages, MAIN.connections, self.effort.warm_seconds),
                lambda: client.opened(messages[0], rate, self.effort.open_seconds),
            )
        finally:
            client.close()

    async def grpc(self, rival: Rival, rows: int, number: int) -> None:
        """Measure gRPC once."""
        port = rival.grpc_port
        if port is None:
            return
        request = InferRequest((tensor("features", make_rows(rows)),))
        message = encode_request(request, NAME).SerializeToString()
        await self._take(
            rival,
            grpc_case(rows),
            number,
            lambda: grpc_closed(port, message, GRPC_CALLS, self.effort.grpc_warm_seconds),
            lambda: grpc_closed(port, message, GRPC_CALLS, self.effort.seconds),
        )

    async def _take(
        self,
        rival: Rival,
        case: str,
        number: int,
        warm: Callable[[], Awaitable[Measured]],
        measure: Callable[[], Awaitable[Measured]],
        name: str = "",
    ) -> None:
        """Warm up and measure; a server that ends it is told of, and the run goes on."""
        try:
            await warm()
            before = rival.process.cpu_seconds()
            gc.collect()
            measured = await measure()
        except (ConnectionError, TimeoutError, AioRpcError) as error:
            broken = Broken(name or rival.name, case, _reason(error))
            self.found.broken.append(broken)
            _say(f"{broken.server}, {case}: {broken.reason}")
            return
        self._add(rival, case, number, measured, before, name)

    def _add(
        self,
        rival: Rival,
        case: str,
        number: int,
        measured: Measured,
        before: float,
        name: str = "",
    ) -> None:
        times = measured.latencies
        self.found.cells.append(
            Cell(
                server=name or rival.name,
                case=case,
                round=number,
                requests=len(times),
                failed=measured.failed,
                seconds=measured.seconds,
                cpu_seconds=rival.process.cpu_seconds() - before,
                p50=percentile(times, 0.5),
                p99=percentile(times, 0.99),
            )
        )

    def raw(self, rows: int, number: int) -> None:
        """Measure the runtime alone, in this process."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(self.fleet.model, options)
        feed = {"features": make_rows(rows)}
        for _ in range(20):
            session.run(["score"], feed)
        times = []
        began, cpu = time.perf_counter(), time.process_time()
        while time.perf_counter() < began + self.effort.seconds:
            one = time.perf_counter()
            session.run(["score"], feed)
            times.append(time.perf_counter() - one)
        self.found.cells.append(
            Cell(
                RAW,
                raw_case(rows),
                number,
                len(times),
                0,
                time.perf_counter() - began,
                time.process_time() - cpu,
                percentile(times, 0.5),
                percentile(times, 0.99),
            )
        )

    async def one_worker(self, rivals: list[Rival]) -> None:
        """Measure every case, one server after the other, round by round."""
        for number in range(self.effort.main_rounds):
            for rival in rivals:
                await self.cell(rival, MAIN, number, self.effort.main_seconds)
        for rival in rivals:
            memory = rival.process.memory_mb()
            if memory is not None:
                self.found.memory[rival.name] = memory
        for rows in (1, 10, 100, 1000):
            for number in range(self.effort.rounds):
                self.raw(rows, number)
        for case in cases()[1:]:
            for number in range(self.effort.rounds):
                for rival in rivals:
                    await self.cell(rival, case, number, self.effort.seconds)
            _say(f"{case}")
        await self._open_loops(rivals)
        await self._grpc_calls([rival for rival in rivals if rival.name in (DAVY, KSERVE)])

    async def _open_loops(self, rivals: list[Rival]) -> None:
        for share in LOADS:
            for number in range(self.effort.rounds):
                for rival in rivals:
                    await self.opened(rival, share, number)
        _say("open loop")

    async def _grpc_calls(self, rivals: list[Rival]) -> None:
        for rows in GRPC_ROWS:
            for number in range(self.effort.rounds):
                for rival in rivals:
                    await self.grpc(rival, rows, number)
        _say("gRPC")

    async def two_workers(self, rivals: dict[str, Rival]) -> None:
        """Measure what a second worker brings, on all cores."""
        for case in WORKER_CASES:
            for number in range(self.effort.rounds):
                for name, rival in rivals.items():
                    await self.cell(rival, case, number, self.effort.seconds * 2, name)
        _say("two workers")


def _reason(error: Exception) -> str:
    """Return a line about what ended a measurement."""
    if isinstance(error, AioRpcError):
        return f"gRPC {error.code().name}: {error.details()}"
    return str(error) or "no answer in time"


def _say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")


@contextlib.contextmanager
def _running(
    starts: list[Callable[[], Rival]], found: Found, cores: set[int] | None, names: set[str]
) -> Iterator[list[Rival]]:
    """Start servers, keep them on `cores`, end them."""
    rivals: list[Rival] = []
    try:
        for begin in starts:
            label = begin.__name__
            if names and label.removesuffix(TWO) not in names:
                continue
            try:
                rival = begin()
            except (NotStartedError, NotInstalledError) as error:
                found.absent[label] = str(error)
                _say(f"{label}: {error}")
                continue
            rivals.append(rival)
            if cores:
                rival.process.pin(cores)
            _say(f"{rival.name}: ready after {rival.process.ready_seconds:.1f} s")
        yield rivals
    finally:
        for rival in rivals:
            rival.process.end()


def _options(arguments: list[str] | None) -> tuple[argparse.Namespace, set[str]]:
    """Return what was asked for, and the names of the servers where not all are to run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="only see whether everything runs")
    known = list(METHODS.values())
    parser.add_argument("--only", default="", help=f"some of {','.join(known)}")
    parser.add_argument("--skip-workers", action="store_true", help="leave two workers out")
    parser.add_argument("--json", type=Path, help="keep every measurement here")
    options = parser.parse_args(arguments)
    names = set(filter(None, options.only.split(",")))
    if names - set(known):
        wrong = ", ".join(sorted(names - set(known)))
        parser.error(f"--only: no server {wrong}; there are {', '.join(known)}")
    return options, names


def main(arguments: list[str] | None = None) -> int:
    """Measure and write; 1 when Davy failed a request, ended a measurement or did not start."""
    options, names = _options(arguments)
    writes = not (options.quick or options.json or names or options.skip_workers)
    if writes:
        report.BLOCK.check()
    effort = QUICK if options.quick else Effort()
    cores = sorted(os.sched_getaffinity(0))
    pinned = len(cores) > 1
    found = Found(started=time.time(), load=os.getloadavg()[0], pinned=pinned)
    with tempfile.TemporaryDirectory(prefix="davy-bench-") as folder:
        work = Path(folder)
        package = write_net_package(work / "package").path
        sink_port = free_port()
        command = [sys.executable, "-m", "tests.benchmarks.serving.sink", str(sink_port)]
        sink = start(command, {}, work / "sink", f"http://127.0.0.1:{sink_port}/")
        try:
            fleet = Fleet(work, package, sink_port)
            bench = Bench(effort, fleet, found, cores[1] if pinned else None)
            if pinned:
                sink.pin({cores[1]})
            starts = [
                fleet.davy,
                fleet.starlette,
                fleet.asgi,
                fleet.bento,
                fleet.kserve,
                fleet.mlserver,
            ]
            with _running(starts, found, {cores[0]} if pinned else None, names) as rivals:
                if pinned:
                    os.sched_setaffinity(0, {cores[1]})
                uvloop.run(bench.one_worker(rivals))
                for rival in rivals:
                    memory = rival.process.memory_mb()
                    if memory is not None:
                        found.grown[rival.name] = memory[0]
                    found.ready[rival.name] = rival.process.ready_seconds
                os.sched_setaffinity(0, set(cores))
            if not options.skip_workers:
                _two_workers(bench, fleet, found, names)
        finally:
            os.sched_setaffinity(0, set(cores))
            sink.end()
    found.ended = time.time()
    if options.json:
        options.json.write_text(json.dumps([asdict(cell) for cell in found.cells]))
    text = report.render(found)
    sys.stdout.write(text)
    if writes:
        report.BLOCK.write(text)
    return 1 if found.ours_failed() else 0


def _two_workers(bench: Bench, fleet: Fleet, found: Found, names: set[str]) -> None:
    def starlette_2() -> Rival:
        return replace(fleet.starlette(workers=2), name=two("Starlette"))

    def davy_2() -> Rival:
        return replace(fleet.davy(workers=2), name=two(DAVY))

    # One of each pair at a time is asked, all of them are there.
    starts = [fleet.davy, davy_2, fleet.starlette, starlette_2]
    with _running(starts, found, None, names) as rivals:
        named = {rival.name if is_two(rival.name) else one(rival.name): rival for rival in rivals}
        uvloop.run(bench.two_workers(named))


if __name__ == "__main__":
    sys.exit(main())
