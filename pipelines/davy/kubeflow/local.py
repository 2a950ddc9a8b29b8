"""One run of the pipeline on this machine, in a process of its own: ``python -m`` this module.

Belongs here: setting up ``kfp.local`` and calling the pipeline. Not here: watching it (`run`).

It has its own process because kfp.local keeps its state in globals, replaces ``print`` and the
root logger's handlers, and writes everything that the steps print to standard output.
"""

from __future__ import annotations

import json
import logging
import sys
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

    kfp.local.init(
        kfp.local.SubprocessRunner(use_venv=False),
        pipeline_root=fields["root"],
        workspace_root=fields["workspace"],
        raise_on_error=True,
        enable_caching=fields["cache"] is not None,
        cache_root=fields["cache"],
    )
    run = train_and_package(**fields["arguments"])
    write_atomic(Path(fields["result"]), json.dumps({"package": run.output}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
