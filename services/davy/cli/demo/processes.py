"""Child processes that never outlive the demo.

Belongs here: starting, waiting for readiness, ending, and saying why one died.
Not here: which processes there are.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx
import psutil

from davy.core.errors import MissingDependencyError, PermanentError, UnavailableError

# Libraries that would tell their makers of this machine.
QUIET = {"ORT_DISABLE_TELEMETRY": "1", "BENTOML_DO_NOT_TRACK": "true"}


class ProcessDiedError(PermanentError):
    """A program that the demo needs ended by itself."""


@dataclass(frozen=True, slots=True)
class Child:
    """One started program and where its output goes."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    def tail(self, lines: int = 8) -> str:
        """Return the last lines of the program's output."""
        with self.log.open(errors="replace") as file:
            return "".join(deque(file, lines)).strip()


class Supervisor:
    """Starts programs and ends all of them, the last one first.

    Every child is told by the kernel to end when this process does, however it ends.
    Use it as a context manager.

    Parameters
    ----------
    logs : Path
        Folder in which each program has a file of its own.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._children: dict[str, Child] = {}
        logs.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop_all()

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        control: bool = False,
    ) -> Child:
        """Start a program.

        Parameters
        ----------
        name : str
            Unique while the program runs; also names its log.
        command : sequence of str
            Program and arguments; programs of this Python environment come first.
        environment : mapping, optional
            Variables added to this process's own.
        control : bool
            Whether its standard input is a pipe (`Child.popen.stdin`).

        Raises
        ------
        MissingDependencyError
            The program is not on this machine.
        """
        log = self._logs / f"{name}.log"
        guard = shutil.which("setpriv")
        if guard is None:
            raise MissingDependencyError(
                "program not found", where="setpriv", fix="Install Debian's package util-linux"
            )
        with log.open("ab") as output:
            popen = subprocess.Popen(
                [guard, "--pdeathsig", "TERM", "--", *command],
                stdin=subprocess.PIPE if control else subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **QUIET, "PATH": search_path(), **(environment or {})},
                start_new_session=True,
            )
        child = Child(name, popen, log)
        self._children[name] = child
        return child

    def wait_ready(self, name: str, url: str, *, seconds: float = 60.0) -> None:
        """Wait until ``url`` answers 200.

        Raises
        ------
        ProcessDiedError
            The program ended first; carries the last lines of its output.
        UnavailableError
            It did not answer in time.
        """

        def answers() -> bool:
            try:
                return httpx.get(url, timeout=2.0).status_code == 200
            except httpx.HTTPError:
                return False

        self.wait_until(name, answers, what=f"no answer at {url}", seconds=seconds)

    def wait_until(
        self,
        name: str,
        condition: Callable[[], bool],
        *,
        what: str,
        seconds: float,
        ending: Collection[str] = (),
    ) -> None:
        """Wait for a condition while ``name`` runs; errors as in `wait_ready`.

        ``ending`` names programs that may end by themselves, which is then no error.
        """
        end = time.monotonic() + seconds
        while not condition():
            self.check(except_for=ending)
            if time.monotonic() > end:
                child = self._children[name]
                raise UnavailableError(
                    f"{what} after {seconds:.0f} s", where=name, fix=f"See {child.log}"
                )
            time.sleep(0.1)

    def check(self, *, except_for: Collection[str] = ()) -> None:
        """Raise `ProcessDiedError` if any other program ended by itself."""
        for child in self._children.values():
            code = child.popen.poll()
            if code is not None and child.name not in except_for:
                raise ProcessDiedError(
                    f"ended with code {code}; its last lines:\n{child.tail()}",
                    where=child.name,
                    fix=f"See {child.log}",
                )

    def finish(self, name: str, *, seconds: float) -> int:
        """Wait for a program that ends by itself and return its exit code."""
        child = self._children.pop(name)
        try:
            return child.popen.wait(seconds)
        finally:
            _end(child, grace=0.0)

    def stop(self, name: str, *, grace: float = 15.0) -> None:
        """End a program: SIGTERM, and SIGKILL for what is left of it after ``grace`` seconds."""
        child = self._children.pop(name, None)
        if child is not None:
            _end(child, grace=grace)

    def stop_all(self) -> None:
        """End every program, the last one started first."""
        for name in reversed(list(self._children)):
            self.stop(name, grace=10.0)

    def pids(self) -> dict[str, int]:
        """Return the process ids by name."""
        return {name: child.popen.pid for name, child in self._children.items()}


def _end(child: Child, *, grace: float) -> None:
    family = _descendants(child.popen.pid)
    if child.popen.stdin is not None:
        _close(child.popen.stdin)
    if child.popen.poll() is None:
        child.popen.terminate()
        try:
            child.popen.wait(grace)
        except subprocess.TimeoutExpired:
            child.popen.kill()
    # What it started may be in the same session, or may have made one of its own.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.popen.pid, signal.SIGKILL)
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    child.popen.wait()


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        found: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return found


def _close(pipe: IO[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError):
        pipe.close()


def search_path() -> str:
    """Return where programs are looked for: this Python environment's own, then ``PATH``."""
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"


def find_program(name: str, *, package: str) -> str:
    """Return the path of a program.

    Raises
    ------
    MissingDependencyError
        It is not installed; says which Debian or Python package holds it.
    """
    found = shutil.which(name, path=search_path())
    if found is None:
        raise MissingDependencyError("program not found", where=name, fix=f"Install {package}")
    return found
