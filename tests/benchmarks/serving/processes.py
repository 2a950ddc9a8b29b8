"""A server as a process of the benchmark: start, processor time, memory, cores, end.

Belongs here: the process and what the system says of it. Not here: which servers there are.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import psutil
from tests.benchmarks.environment import inherited
from tests.benchmarks.page import ROOT

START_SECONDS = 90.0


class NotStartedError(RuntimeError):
    """The server did not become ready; says what it wrote last."""


@dataclass(slots=True)
class Process:
    """A started server and its children."""

    popen: subprocess.Popen[bytes]
    log: Path
    ready_seconds: float = 0.0

    def _tree(self) -> list[psutil.Process]:
        try:
            top = psutil.Process(self.popen.pid)
            return [top, *top.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def cpu_seconds(self) -> float:
        """Return the processor time of all its threads so far."""
        return sum(_cpu_seconds(process.pid) for process in self._tree())

    def memory_mb(self) -> tuple[float, float] | None:
        """Return megabytes of the largest process and of all, shared pages divided (PSS).

        None where it has ended.
        """
        sizes = []
        for process in self._tree():
            with contextlib.suppress(psutil.Error):
                sizes.append(process.memory_full_info().pss / 1e6)
        return (max(sizes), sum(sizes)) if sizes else None

    def pin(self, cores: Iterable[int]) -> None:
        """Let every thread run on these cores only."""
        for process in self._tree():
            for thread in process.threads():
                with contextlib.suppress(OSError):
                    os.sched_setaffinity(thread.id, set(cores))

    def end(self) -> None:
        """Ask it to end; make it after a while."""
        if self.popen.poll() is not None:
            return
        self.popen.send_signal(signal.SIGTERM)
        try:
            self.popen.wait(15)
        except subprocess.TimeoutExpired:
            kill(self.popen)


def kill(popen: subprocess.Popen[bytes], patience: float = 2.0) -> None:
    """Kill a process and all below it.

    Those below go first: a container's runtime then ends by itself and forgets the container. One
    that starts its children anew instead is held still while it is killed with them.
    """
    if popen.poll() is not None:
        return
    _kill_below(popen.pid)
    try:
        popen.wait(patience)
    except subprocess.TimeoutExpired:
        popen.send_signal(signal.SIGSTOP)
        _kill_below(popen.pid)
        popen.kill()
        popen.wait()


def _kill_below(pid: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def start(command: list[str], environment: Mapping[str, str], folder: Path, probe: str) -> Process:
    """Start a server and wait until `probe` answers 200.

    Raises
    ------
    NotStartedError
        It ended, or took longer than `START_SECONDS`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "server.log"
    with log.open("wb") as file:
        started = time.perf_counter()
        popen = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**inherited(), **environment},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    process = Process(popen, log)
    while time.perf_counter() - started < START_SECONDS:
        if popen.poll() is not None:
            break
        if _answers(probe):
            process.ready_seconds = time.perf_counter() - started
            return process
        time.sleep(0.02)
    process.end()
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    raise NotStartedError(lines[-1][:200] if lines else "it wrote nothing")


def _answers(url: str) -> bool:
    try:
        with urlopen(Request(url), timeout=2) as answer:  # noqa: S310 (loopback)
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def _cpu_seconds(pid: int) -> float:
    """Return processor seconds of a process's threads, in nanoseconds where the system has them."""
    total = 0
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                total += int((task / "schedstat").read_text().split()[0])
    except OSError:
        return 0.0
    if total:
        return total / 1e9
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)
