"""One metrics folder for each server, so that two on a machine do not mix.

Belongs here: where prometheus_client keeps the values of BentoML's worker processes.
Not here: the metrics.

BentoML gives every server of a user the same folder, and each one empties it when it starts: of
two servers side by side, as in an embedded canary, the first would then report the numbers of the
second. A supervisor and its workers agree on a folder of their own through the supervisor's
process id.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import MutableMapping
from pathlib import Path

from davy.core.errors import ConfigurationError

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def separate(environment: MutableMapping[str, str]) -> Path:
    """Give this server a metrics folder of its own; call it before any metric is made.

    Parameters
    ----------
    environment : mutable mapping
        The process's environment. A worker is told by `VARIABLE`, which its supervisor sets; it
        is pointed at the supervisor's folder.

    Raises
    ------
    ConfigurationError
        The folder belongs to someone else.
    """
    if VARIABLE in environment:
        folder = _folder(os.getppid())
        _make(folder)
        environment[VARIABLE] = str(folder)
        return folder
    owner = os.getpid()
    folder = _folder(owner)
    # Left over from a process that had this id before and was killed.
    shutil.rmtree(folder, ignore_errors=True)
    _make(folder)
    atexit.register(_remove, folder, owner)
    return folder


def _folder(pid: int) -> Path:
    return Path(tempfile.gettempdir()) / f"davy-predictor-{os.getuid()}-{pid}"


def _make(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if folder.is_symlink() or status.st_uid != os.getuid():
        raise ConfigurationError(
            "belongs to another user", where=str(folder), fix="Set TMPDIR to a folder of your own"
        )


def _remove(folder: Path, owner: int) -> None:
    # A forked child runs the same exit handlers.
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
