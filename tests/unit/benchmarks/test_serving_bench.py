"""The serving benchmark's run: names that it takes, and servers that end a measurement."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata
from tests.benchmarks import bench_serving
from tests.benchmarks.bench_serving import QUICK, Bench, main
from tests.benchmarks.environment import NotInstalledError
from tests.benchmarks.serving.figures import Cell
from tests.benchmarks.serving.fleet import DAVY, STARLETTE, Fleet, Rival
from tests.benchmarks.serving.found import Broken, Found
from tests.benchmarks.serving.processes import Process
from tests.benchmarks.serving.workload import MAIN
from tests.fixtures.predictor_server import free_port


@pytest.fixture
def gone(tmp_path: Path) -> Iterator[Rival]:
    """A server whose process runs but that listens nowhere."""
    asleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(asleep) as process:
        yield Rival(DAVY, free_port(), Process(process, tmp_path / "log"), free_port())
        process.kill()


def bench(folder: Path, found: Found) -> Bench:
    return Bench(QUICK, Fleet(folder, folder, 0), found, None)


def test_an_unknown_name_is_refused_before_anything_starts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--only", "Davy,starlette"])
    assert ended.value.code == 2
    assert "no server Davy; there are davy, starlette" in capsys.readouterr().err


def test_a_server_that_does_not_answer_is_told_of_and_the_run_goes_on(
    gone: Rival, tmp_path: Path
) -> None:
    found = Found(cells=[Cell(DAVY, "1 · json · 64", 0, 100, 0, 1.0, 0.5, 0.001, 0.002)])
    run = bench(tmp_path, found)
    asyncio.run(run.cell(gone, MAIN, 0, 0.1))
    asyncio.run(run.opened(gone, 0.5, 0))
    assert [(b.server, b.case) for b in found.broken] == [(DAVY, str(MAIN)), (DAVY, "open 50%")]
    assert len(found.cells) == 1
    assert found.ours_failed()


def test_a_call_that_ends_is_told_of_and_the_run_goes_on(
    gone: Rival, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = AioRpcError(
        grpc.StatusCode.UNAVAILABLE, Metadata(), Metadata(), details="socket closed"
    )

    async def ends(*_: object) -> None:
        raise error

    monkeypatch.setattr(bench_serving, "grpc_closed", ends)
    found = Found()
    asyncio.run(bench(tmp_path, found).grpc(gone, 1, 0))
    assert found.broken == [Broken(DAVY, "gRPC 1", "gRPC UNAVAILABLE: socket closed")]


def test_a_second_worker_is_measured_only_of_the_servers_that_were_named() -> None:
    begun: list[str] = []

    def start(name: str):
        def begin() -> Rival:
            begun.append(name)
            raise NotInstalledError("a stand-in that never starts")

        begin.__name__ = name
        return begin

    found = Found()
    starts = [start(name) for name in ("davy", "davy_2", "starlette", "starlette_2")]
    with bench_serving._running(starts, found, None, {"starlette"}) as rivals:
        assert rivals == []
    assert begun == ["starlette", "starlette_2"]
    assert not found.ours_failed()


@pytest.mark.parametrize(
    ("found", "failed"),
    [
        (Found(), False),
        (Found(cells=[Cell(STARLETTE, "c", 0, 1, 1, 1.0, 1.0, 0.1, 0.1)]), False),
        (Found(cells=[Cell(f"{DAVY}, two workers", "c", 0, 1, 1, 1.0, 1.0, 0.1, 0.1)]), True),
        (Found(broken=[Broken(STARLETTE, "c", "closed")]), False),
        (Found(broken=[Broken(DAVY, "c", "closed")]), True),
        (Found(absent={"mlserver": "no such wheel"}), False),
        (Found(absent={"davy_2": "port taken"}), True),
    ],
)
def test_what_davy_owes_ends_the_command_with_1(found: Found, failed: bool) -> None:
    assert found.ours_failed() is failed
