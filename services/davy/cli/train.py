"""``davy train``: from a task over one table to a package.

Belongs here: the command's arguments and what it prints. Not here: training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from davy.cli.extras import needs
from davy.core.errors import InvalidInputError

app = typer.Typer(help="Train a model of one table and package it.")


@app.callback(invoke_without_command=True)
def train(
    task: Annotated[Path, typer.Option("--task", help="The task's YAML file.", show_default=False)],
    store: Annotated[Path, typer.Option("--store", help="Folder of packages.")] = Path("packages"),
) -> None:
    """Train a model of one table and package it."""
    with needs("davy train", "train"):
        from davy.core.clock import SystemClock
        from davy.core.files import read_document
        from davy.data.table_task import is_table_task, load_table_task
        from davy.kubeflow.code import code_version
        from davy.training.tabular import train_table

    if not is_table_task(read_document(task)):
        raise InvalidInputError(
            "only tasks of kind classification or regression are trained here",
            where=str(task),
            fix="For a ranking: davy pipeline run",
        )
    package, table = train_table(
        load_table_task(task), store, clock=SystemClock(), code_version=code_version()
    )
    for reason, count in table.reasons().items():
        print(f"set aside {count} rows: {reason}")
    if table.not_yet_known:
        print(f"left out {table.not_yet_known} rows: label not known when the test rows begin")
    for name, count in table.unreadable.items():
        print(f"{name}: {count} values are no numbers and count as missing")
    for metric in package.contract.metrics:
        found = metric.overall
        print(
            f"{metric.name:<18} {found.value:.4g}  [{found.lower:.4g}, {found.upper:.4g}]"
            f"  {found.n} test rows"
        )
    print(package.path)
