"""The pipeline as the YAML that a Kubeflow Pipelines server takes.

Belongs here: compiling, and loading what was compiled. Not here: the graph.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from pathlib import Path

from davy.core.files import write_atomic
from davy.data.task import Task


def compile_pipeline(task: Task, target: Path) -> Path:
    """Compile the pipeline with `task` as the default of its ``task_text``.

    The same task gives the same bytes.

    Returns
    -------
    Path
        `target`.
    """
    write_atomic(target, compiled(task))
    return target


def compiled(task: Task) -> str:
    """Return the compiled pipeline as YAML text."""
    from kfp import compiler

    from davy.kubeflow.pipeline import train_and_package

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(
            train_and_package,
            str(path),
            pipeline_name=task.name.replace("_", "-"),
            # On one line, as kfp copies defaults unescaped into the comment at the top. JSON is
            # YAML too, so the steps read it like any other task.
            pipeline_parameters={"task_text": json.dumps(task.model_dump(mode="json"))},
        )
        return path.read_text(encoding="utf-8")
