"""One run of the pipeline on this machine, in a process of its own: ``python -m`` this module.

Belongs here: setting up ``kfp.local``, calling the pipeline, ending when nobody watches.
Not here: watching it (`run`).

It has its own process because kfp.local keeps its state in globals, replaces ``print`` and the
root logger's handlers, and writes everything that the steps print to standard output.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import signal
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

from davy.core.files import write_atomic


def main(request: Path) -> None:
    """Run the pipeline as `request` says and write where its package is beside it.

    Parameters
    ----------
    request : Path
        JSON with ``root`` (folder of the steps' outputs), ``cache`` (folder, or null),
        ``arguments`` (of the pipeline) and ``result`` (file that gets the package's path).
    """
    import kfp.local

    # kfp says only at this level, and only to the root logger, that it took a step from the cache.
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    fields: dict[str, Any] = json.loads(request.read_text(encoding="utf-8"))
    warnings.simplefilter("ignore")
    from davy.kubeflow.pipeline import train_and_package

    # kfp writes the interpreter's path into the text of a shell script as it is.
    sys.executable = shlex.quote(sys.executable)
    kfp.local.init(
        kfp.local.SubprocessRunner(use_venv=False),
        pipeline_root=fields["root"],
        workspace_root=fields["workspace"],
        raise_on_error=True,
        enable_caching=fields["cache"] is not None,
        cache_root=fields["cache"],
    )
    # Here the cache folder's name stands for the tables (`davy.kubeflow.run.cache_name`).
    tasks = train_and_package.pipeline_spec.root.dag.tasks
    tasks["prepare-data"].caching_options.enable_cache = True
    run = train_and_package(**fields["arguments"])
    write_atomic(Path(fields["result"]), json.dumps({"package": run.output}) + "\n")


def end_together() -> None:
    """Let this process's group, its step with it, end on SIGTERM and with whoever started it.

    That one holds the other end of standard input, which the kernel closes however it ends. A
    process that leads no group of its own is left as it is: the group is somebody else's.
    """
    group = os.getpid()
    if os.getpgrp() != group:
        return
    # The steps get an empty standard input and not this one.
    lifeline = os.dup(0)
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 (a descriptor is wanted)
        os.dup2(nothing.fileno(), 0)

    def watch() -> None:
        while os.read(lifeline, 1):
            pass
        os.killpg(group, signal.SIGKILL)

    signal.signal(signal.SIGTERM, lambda _number, _frame: os.killpg(group, signal.SIGKILL))
    threading.Thread(target=watch, daemon=True, name="lifeline").start()


if __name__ == "__main__":
    end_together()
    main(Path(sys.argv[1]))
