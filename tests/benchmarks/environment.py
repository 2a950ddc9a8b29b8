"""What a benchmark starts programs in: variables, and environments of rivals' own.

Belongs here: both. Not here: which programs there are, and their processes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

CACHE = Path.home() / ".cache" / "davy-bench"
# Is written last: an environment that was broken off has an interpreter too.
DONE = "installed"


class NotInstalledError(RuntimeError):
    """A rival's environment cannot be made; says what the installer said."""


def inherited() -> dict[str, str]:
    """Return this process's variables without settings of Davy or Prometheus."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("DAVY_", "PROMETHEUS_"))}


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"{command[0]} failed"]
        raise NotInstalledError(lines[-1][:200])


def interpreter(
    name: str,
    packages: Sequence[str],
    cache: Path = CACHE,
    run: Callable[[Sequence[str]], None] = _run,
) -> Path:
    """Return the interpreter of an environment with these packages, made once if need be.

    Raises
    ------
    NotInstalledError
        It cannot be made.
    """
    folder = cache / name
    python = folder / "bin" / "python"
    if (folder / DONE).is_file():
        return python
    uv = str(Path(sys.executable).with_name("uv"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
    run([uv, "pip", "install", "--quiet", "--python", str(python), *packages])
    (folder / DONE).touch()
    return python
