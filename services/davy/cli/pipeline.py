"""``davy pipeline``: run the training pipeline here, or compile it for a cluster.

Belongs here: options and what is printed. Not here: the pipeline.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

app = typer.Typer(help="Train and package a model.", no_args_is_help=True)

TaskFile = Annotated[Path, typer.Argument(help="Task file, as pipelines/tasks/next_basket.yaml.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a field: model.epochs=2. May be repeated."),
]


@app.command()
def run(
    task: TaskFile,
    store: Annotated[Path, typer.Option(help="Folder of packages that the new one goes to.")],
    work: Annotated[Path, typer.Option(help="Folder for the steps' outputs and their log.")],
    overrides: Overrides = None,
    households: Annotated[
        int, typer.Option(min=0, help="Take a sample of this many households; 0 takes all.")
    ] = 0,
    key: Annotated[
        Path | None, typer.Option(help="Private key that signs the package (davy package keys).")
    ] = None,
    parent: Annotated[str | None, typer.Option(help="Version that this one replaces.")] = None,
    cache: Annotated[
        bool,
        typer.Option(help="Take over unchanged steps of earlier runs in the same work folder."),
    ] = False,
) -> None:
    """Run the whole pipeline on this machine; prints a line a step and the package's folder."""
    from davy.core.errors import NotFoundError
    from davy.data.task import load_task, task_text
    from davy.kubeflow.run import run_local

    text = task_text(load_task(task, overrides or ()))
    if key is not None and not key.is_file():
        raise NotFoundError(
            "no such private key", where=str(key), fix="Make a pair with 'davy package keys DIR'"
        )
    with _ended_like_from_the_keyboard():
        package = run_local(
            text,
            store=store,
            work=work,
            households=households,
            private_key=key,
            parent=parent,
            cache=cache,
            on_step=_print_step,
        )
    print(package)


@app.command(name="compile")
def compile_(
    task: TaskFile = Path("pipelines/tasks/next_basket.yaml"),
    overrides: Overrides = None,
    out: Annotated[
        Path | None, typer.Option(help="Target; pipelines/compiled/NAME.yaml when absent.")
    ] = None,
) -> None:
    """Write the YAML that a Kubeflow Pipelines server takes."""
    from davy.data.task import load_task
    from davy.kubeflow.compile import compile_pipeline

    loaded = load_task(task, overrides or ())
    print(compile_pipeline(loaded, out or Path("pipelines/compiled") / f"{loaded.name}.yaml"))


@contextlib.contextmanager
def _ended_like_from_the_keyboard() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind as Ctrl-C does, so that the run's processes end too."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        # A second one must not cut the unwinding short.
        signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    # One that is ignored, as under nohup, stays so.
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) == signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _print_step(step: str, status: str) -> None:
    if status != "started":
        typer.echo(f"{step:<18} {status}", err=True)
