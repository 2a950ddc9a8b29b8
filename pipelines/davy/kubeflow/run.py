"""Run the pipeline on this machine and tell what each step did.

Belongs here: starting the run's process, following it, turning its failure into an error.
Not here: the pipeline; what kfp itself needs (`local`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import unquote

from davy.core.clock import Clock, SystemClock
from davy.core.errors import ConfigurationError, DavyError
from davy.data.pseudonym import find_key
from davy.data.settings import PipelineSettings
from davy.data.task import Task, parse_task
from davy.kubeflow.code import code_digest
from davy.kubeflow.failure import recall

LOG_NAME = "pipeline.log"

# Called with a step's name and what became of it: "started", "done in 3.1 s", "cached", "failed".
OnStep = Callable[[str, str], None]

_COLOR = re.compile(r"\x1b\[[0-9;]*m")
_STARTED = re.compile(r"^\d\d:\d\d:\d\d\.\d+ - INFO - Executing task '([\w-]+)'")
_ENDED = re.compile(
    r"^\d\d:\d\d:\d\d\.\d+ - (?:INFO|ERROR) - Task '([\w-]+)' finished with status (\w+)"
)
_CACHED = re.compile(r"Task ([\w-]+) cache hit")
# kfp.local indents what a step prints, and nothing else.
_PRINTED = re.compile(r"^ {4}(.*\S)")
_FRAME = re.compile(r"^\S*(?:Error|Exception|Interrupt|Exit)\b")


def run_local(
    task_text: str,
    *,
    store: Path,
    work: Path,
    households: int = 0,
    private_key: Path | None = None,
    parent: str | None = None,
    cache: bool = False,
    on_step: OnStep | None = None,
    clock: Clock | None = None,
) -> Path:
    """Run the whole pipeline through ``kfp.local``, each step in a process of its own.

    Parameters
    ----------
    task_text : str
        Text of the task, as `davy.data.task.task_text` gives it.
    store : Path
        Where the package is written.
    work : Path
        Folder of the steps' outputs, of ``pipeline.log``, in which all that they print ends, and
        of ``pseudonym.key``, unless ``DAVY_PIPELINE_PSEUDONYM_KEY`` is set.
    households : int
        Size of a sample of households; 0 takes all.
    private_key : Path, optional
        PEM key that signs the package.
    parent : str, optional
        Version that the model is meant to replace.
    cache : bool
        Take a step's outputs from an earlier run in the same `work` when its inputs and Davy's
        code are the same.
    on_step : callable, optional
        Told of each step's start and end.
    clock : Clock, optional
        Measures the steps.

    Returns
    -------
    Path
        Folder of the package.

    Raises
    ------
    ConfigurationError
        `work` or `store` is not a folder and cannot be made one.
    DavyError
        A step failed. Where it raised an error of Davy's, one of the same class with the step's
        name in front; else one with the last line that it printed. `where` names the log.
    """
    task = parse_task(task_text)
    work, store = work.resolve(), store.resolve()
    for folder in (work, store):
        _make(folder)
    log = work / LOG_NAME
    secret = PipelineSettings.load().pseudonym_key
    key = find_key(secret.get_secret_value() if secret else None, work)
    with tempfile.TemporaryDirectory(dir=work, prefix=".run-") as made:
        folder = Path(made)
        result = folder / "result.json"
        request = folder / "request.json"
        temporary = folder / "tmp"
        fields = {
            "root": str(work / "steps"),
            "workspace": str(folder / "workspace"),
            "cache": str(work / "cache" / cache_name(task, key)) if cache else None,
            "result": str(result),
            "arguments": {
                "task_text": task_text,
                "store": str(store),
                "households": households,
                "parent": parent or "",
                "private_key": str(private_key.resolve()) if private_key else "",
            },
        }
        request.write_text(json.dumps(fields), encoding="utf-8")
        temporary.mkdir()
        follower = Follower(on_step or (lambda _step, _status: None), clock or SystemClock())
        with log.open("a", encoding="utf-8") as file:
            code = _follow(request, key, temporary, follower, file)
        if code != 0 or not result.is_file():
            raise failure(follower, work / "steps", log)
        return Path(json.loads(result.read_text(encoding="utf-8"))["package"])


@dataclass(slots=True)
class Follower:
    """Reads the run's output line by line and knows which step it is in.

    ``failed`` is the step that failed, ``last`` the last line that a step printed and ``error``
    the last of those that names an exception.
    """

    on_step: OnStep
    clock: Clock
    step: str = ""
    since: float = 0.0
    failed: str = ""
    last: str = ""
    error: str = field(default="")

    def line(self, text: str) -> None:
        """Take the next line."""
        plain = _COLOR.sub("", text.rstrip("\n"))
        if match := _STARTED.match(plain):
            self.step, self.since = match[1], self.clock.monotonic()
            self.last = self.error = ""
            self.on_step(self.step, "started")
        elif match := _ENDED.match(plain):
            seconds = self.clock.monotonic() - self.since
            if match[2] == "SUCCESS":
                self.on_step(match[1], f"done in {seconds:.1f} s")
            else:
                self.failed = match[1]
                self.on_step(match[1], f"failed after {seconds:.1f} s")
        elif match := _CACHED.search(plain):
            self.on_step(match[1], "cached")
        elif match := _PRINTED.match(plain):
            self._printed(match[1])
        elif plain.strip() and not self.failed:
            self._printed(plain.strip())

    def _printed(self, text: str) -> None:
        self.last = text
        if _FRAME.match(text):
            self.error = text


def cache_name(task: Task, key: bytes) -> str:
    """Return a name for all that a step's outcome depends on and kfp's own cache key leaves out.

    That is Davy's code, the key of the pseudonyms, and which files the task's data lies in.
    """
    digest = hashlib.sha256(code_digest().encode() + hashlib.sha256(key).digest())
    if task.data.source.startswith("file://"):
        folder = Path(unquote(task.data.source.removeprefix("file://")))
        for path in sorted(folder.glob("*")):
            facts = path.stat()
            digest.update(f"{path.name} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"cannot be made a folder ({error.strerror})",
            where=str(folder),
            fix="Name a folder that can be written",
        ) from None


def _follow(request: Path, key: bytes, temporary: Path, follower: Follower, log: IO[str]) -> int:
    # More threads than that are slower beside other work on a machine with few cores.
    environment = {
        "OMP_NUM_THREADS": "1",
        # onnxruntime would tell its makers of this machine.
        "ORT_DISABLE_TELEMETRY": "1",
        **os.environ,
        # Without it each run would make a key of its own.
        "DAVY_PIPELINE_PSEUDONYM_KEY": key.decode(),
        # kfp leaves a script of each step behind.
        "TMPDIR": str(temporary),
        "PYTHONUNBUFFERED": "1",
        "NO_COLOR": "1",
    }
    command = [sys.executable, "-m", "davy.kubeflow.local", str(request)]
    with process(command, environment) as started:
        for text in started.stdout or ():
            log.write(_COLOR.sub("", text))
            log.flush()
            follower.line(text)
        return started.wait()


@contextlib.contextmanager
def process(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Start the run as a group of its own, and end the whole group however this ends.

    Its standard input is a pipe that stays open for as long as this process lives.
    """
    started = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
        start_new_session=True,
    )
    try:
        yield started
    finally:
        # The group outlives its leader where a step is still at work.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(started.pid, signal.SIGKILL if started.poll() is None else signal.SIGTERM)
        for pipe in (started.stdin, started.stdout):
            if pipe is not None:
                pipe.close()
        started.wait()


def failure(follower: Follower, root: Path, log: Path) -> DavyError:
    """Return the error of a run that did not end well; `root` holds the steps' outputs."""
    step = follower.failed or follower.step or "start"
    advice = f"The whole output is in {log}"
    runs = sorted(root.glob(f"*/{step}"), key=lambda folder: folder.parent.name)
    known = recall(runs[-1]) if follower.failed and runs else None
    if known is not None:
        place = f"step {step}" + (f": {known.where}" if known.where else "")
        return type(known)(
            known.what, where=place, fix=". ".join(filter(None, [known.fix, advice]))
        )
    said = follower.error or follower.last or "it ended without a word"
    return DavyError(said, where=f"step {step}", fix=advice)
