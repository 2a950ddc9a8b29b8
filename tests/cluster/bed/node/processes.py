"""Processes that outlive whoever started them, told again by pid and start time.

Belongs here: start, look, stop. Not here: which processes.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

STOP_SECONDS = 15.0


def started_at(pid: int) -> str | None:
    """Return when a process was started, in the kernel's ticks; None when it is none any more."""
    try:
        # The name, in brackets, may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


@dataclass(frozen=True, slots=True)
class Processes:
    """Processes by name, remembered in a folder."""

    folder: Path
    logs: Path

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        inside: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        """Start a program unless it runs; ``inside`` has to become it (by exec)."""
        if self.alive(name):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        with (self.logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*inside, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=cwd,
                env=None if environ is None else {**os.environ, **environ},
                start_new_session=True,
            )
        note = {"pid": process.pid, "started": started_at(process.pid)}
        (self.folder / name).write_text(json.dumps(note))

    def pid(self, name: str) -> int | None:
        """Return the process, None when it does not run."""
        try:
            note = json.loads((self.folder / name).read_text())
        except (OSError, ValueError):
            return None
        pid = int(note["pid"])
        # Reaped here if it is a child of ours.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        running = started_at(pid)
        return pid if running is not None and running == note["started"] else None

    def alive(self, name: str) -> bool:
        return self.pid(name) is not None

    def names(self) -> list[str]:
        """Return the names of all that were started and not stopped."""
        return sorted(path.name for path in self.folder.glob("*")) if self.folder.is_dir() else []

    def stop(self, name: str, first: int = signal.SIGTERM, wait: float = STOP_SECONDS) -> None:
        """End a process and wait for it; killed when it takes too long."""
        pid = self.pid(name)
        if pid is not None:
            for number, seconds in ((first, wait), (signal.SIGKILL, 5.0)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
                until = time.monotonic() + seconds
                while self.alive(name) and time.monotonic() < until:
                    time.sleep(0.05)
                if not self.alive(name):
                    break
            else:
                raise RuntimeError(f"{name} (process {pid}) does not end")
        (self.folder / name).unlink(missing_ok=True)

    def log_end(self, name: str, characters: int = 2000) -> str:
        """Return the end of a program's log."""
        try:
            return (self.logs / f"{name}.log").read_text(errors="replace")[-characters:]
        except FileNotFoundError:
            return ""
