"""An image as a pod has it, run to its end or until it is told to end.

Belongs here: running it, what holds for every image. Not here: what one image answers.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import psutil
from tests.benchmarks.container import NOBODY, RUNTIME, Mount, bundle_config, run_command
from tests.benchmarks.serving.processes import kill

WAIT_SECONDS = 120.0
# What a pod gets that says nothing else.
GRACE_SECONDS = 30.0

# Leaves a child behind whose parent has ended, and tells what it may do.
PROBE = """
import json, os, time
if os.fork() == 0:
    if os.fork() == 0:
        time.sleep(0.2)
    os._exit(0)
os.wait()
time.sleep(0.8)
states = {}
for name in os.listdir("/proc"):
    if name.isdigit():
        with open(f"/proc/{name}/stat") as file:
            states[name] = file.read().rpartition(")")[2].split()[0]
written = []
for folder in ("/", "/app", "/etc", "/mnt/models", "/tmp", "/var"):
    try:
        with open(f"{folder}/probe", "w"):
            written.append(folder)
    except OSError:
        pass
print(json.dumps({"user": [os.getuid(), os.getgid()], "written": written,
                  "zombies": list(states.values()).count("Z")}))
"""


@dataclass(frozen=True, slots=True)
class Pod:
    """What a container is made of.

    Attributes
    ----------
    root, about
        Files and configuration of the image.
    work : Path
        A folder for the bundle and the log.
    """

    root: Path
    about: Mapping[str, Any]
    work: Path

    @property
    def log(self) -> Path:
        """What the container wrote."""
        return self.work / "log"

    def begin(
        self,
        arguments: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
        mounts: Mapping[str, Mount] | None = None,
        entrypoint: Sequence[str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a container."""
        config = bundle_config(
            self.root,
            self.about,
            variables or {},
            mounts or {},
            arguments=arguments,
            entrypoint=entrypoint,
        )
        command = run_command(config, self.work, f"pod-{time.monotonic_ns()}")
        with self.log.open("wb") as file:
            return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)

    def run(self, *given: Any, **named: Any) -> tuple[int, str]:
        """Run a container to its end; return its exit code and what it wrote."""
        process = self.begin(*given, **named)
        try:
            code = process.wait(WAIT_SECONDS * 5)
        finally:
            kill(process)
        return code, self.log.read_text(encoding="utf-8", errors="replace")

    @contextmanager
    def server(self, *given: Any, **named: Any) -> Iterator[Running]:
        """Run a container that serves, until the block ends."""
        begun = time.monotonic()
        process = self.begin(*given, **named)
        try:
            yield Running(process, self.log, begun)
        finally:
            kill(process)


@dataclass(frozen=True, slots=True)
class Running:
    """A container that serves: the runtime's process, its log, when it was begun."""

    process: subprocess.Popen[bytes]
    log: Path
    begun: float

    def wait(self, condition: Callable[[], bool], what: str) -> float:
        """Wait until something holds; return the seconds since the container was begun."""
        while not condition():
            if time.monotonic() - self.begun > WAIT_SECONDS or self.process.poll() is not None:
                fail(f"not {what}", self.log)
            time.sleep(0.02)
        return time.monotonic() - self.begun

    def family(self) -> list[psutil.Process]:
        """Return the image's processes, its first one first."""
        everybody = psutil.Process(self.process.pid).children(recursive=True)
        return [member for member in everybody if member.name() not in RUNTIME]

    def memory(self) -> float:
        """Return the proportional set size of all its processes, in MB."""
        return sum(member.memory_full_info().pss for member in self.family()) / 1e6

    def end(self, meanwhile: Callable[[], None] = lambda: None) -> float:
        """Send SIGTERM to its first process; return the seconds until all have ended in order.

        `meanwhile` is called once the signal is sent.
        """
        first = self.family()[0]
        if first.name() != "tini":
            fail(f"its first process is {first.name()}", self.log)
        begun = time.monotonic()
        first.send_signal(signal.SIGTERM)
        meanwhile()
        try:
            code = self.process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            fail(f"not ended {GRACE_SECONDS:.0f} s after SIGTERM", self.log)
        if code != 0:
            fail(f"ended with {code} after SIGTERM", self.log)
        return time.monotonic() - begun


def fail(what: str, log: Path) -> NoReturn:
    """End the benchmark, with what a container wrote last."""
    sys.exit(f"error: {what}:\n{log.read_text(encoding='utf-8', errors='replace')[-3000:]}")


def check(pod: Pod) -> None:
    """End the benchmark where an image does not hold what all of them promise.

    It runs as nobody, /tmp alone can be written to, and PID 1 reaps what is left behind. That the
    last can be told is shown beside it: with the probe itself as PID 1, nobody reaps.
    """
    python = ["/app/venv/bin/python3", "-c", PROBE]
    told = _probe(pod, arguments=python)
    wanted = {"user": [NOBODY, NOBODY], "written": ["/tmp"], "zombies": 0}  # noqa: S108
    if told != wanted:
        fail(f"the image does {told} instead of {wanted}", pod.log)
    if _probe(pod, entrypoint=python)["zombies"] != 1:
        fail("a process that nobody reaps was not seen", pod.log)


def _probe(pod: Pod, **named: Any) -> dict[str, Any]:
    code, text = pod.run(**named)
    if code != 0:
        fail(f"the probe ended with {code}", pod.log)
    told: dict[str, Any] = json.loads(text.splitlines()[-1])
    return told


def owned_by_nobody(folder: Path) -> Path:
    """Make a folder that a container may write to."""
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    return folder
