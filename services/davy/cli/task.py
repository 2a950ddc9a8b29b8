"""``davy task``: look at a task file before anything runs on it.

Belongs here: the command's arguments and what it prints. Not here: the rules of a task.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from davy.cli.extras import needs
from davy.core.errors import ConflictError, InvalidInputError

if TYPE_CHECKING:
    from davy.data.task import Task

app = typer.Typer(help="Task files: what an ML engineer writes.", no_args_is_help=True)


@app.callback()
def task() -> None:
    """Task files: what an ML engineer writes."""


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="The task's YAML file.", show_default=False)],
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="PLACE=VALUE", help="Change a field first, as model.epochs=2."
        ),
    ] = None,
) -> None:
    """Explain what is wrong with a task file, or sum up what it asks for."""
    with needs("davy task check", "pipeline"):
        from davy.core.files import read_document
        from davy.data.sources import find_source
        from davy.data.table import check_columns, read_frame
        from davy.data.table_task import is_table_task, load_table_task
        from davy.data.task import load_task
        from davy.features.registry import check_names
        from davy.features.tables import table_file

    if is_table_task(read_document(file)):
        if changes:
            raise InvalidInputError(
                "--set is of ranking tasks", where=str(file), fix="Change the file itself"
            )
        table = load_table_task(file)
        with tempfile.TemporaryDirectory() as folder:
            frame = read_frame(table_file(table, Path(folder)))
        check_columns(table, [str(name) for name in frame.columns])
        print(f"{table.name} ({table.form}) is valid: {len(table.features)} features,")
        print(
            f"  {table.model.family}, {table.objective.metric} at least {table.objective.floor:g}"
        )
        return
    found = load_task(file, changes or [])
    check_names(found)
    find_source(found)
    for line in summary(found):
        print(line)


@app.command()
def init(
    table: Annotated[Path, typer.Argument(help="A CSV or Parquet file.", show_default=False)],
    label: Annotated[str | None, typer.Option("--label", help="The column to predict.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write, in the table's folder.")
    ] = None,
) -> None:
    """Write a first task for a table, beside it, with questions that only a person can answer."""
    with needs("davy task init", "pipeline"):
        from davy.core.files import write_atomic
        from davy.data.table_draft import draft_task

    target = out or table.with_suffix(".yaml")
    if target.exists():
        raise ConflictError(
            "is there already", where=str(target), fix="Name another file with --out"
        )
    write_atomic(target, draft_task(table, label=label))
    print(f"{target}: answer the lines with ?, then davy train --task {target}")


def summary(task: Task) -> Iterator[str]:
    """Yield the lines that sum up a valid task."""
    split = ", ".join(f"{name} {a}-{b}" for name, (a, b) in task.split.parts().items())
    yield f"{task.name} ({task.kind}) is valid"
    yield f"  data         {task.data.source} (days by {task.data.timezone})"
    yield f"  weeks        {split}"
    yield f"  objective    {task.objective.metric}, at least {task.objective.floor:g}"
    yield (
        f"  model        {task.model.family} {'-'.join(map(str, task.model.hidden))},"
        f" {task.model.epochs} epochs, {task.model.train_baskets} baskets,"
        f" {task.candidates.per_basket} candidates each"
    )
    yield (
        f"  compression  {', '.join(task.compression.candidates)};"
        f" may cost {task.compression.budget:g}, smallest {task.compression.prefer} wins"
    )
    gate = [f"{i.name} x{i.ratio:g} or {i.allowance:.2%}" for i in task.rollout.indicators]
    yield f"  gate         {', '.join(gate) or 'defaults'}"
    yield f"  segments     {', '.join(task.segments) or 'none'}"
    yield f"  features     {len(task.features)}"
    width = max(len(feature.name) for feature in task.features)
    for feature in task.features:
        limits = f"[{feature.range.low:g}, {feature.range.high:g}]" if feature.range else "any"
        yield (
            f"    {feature.name:<{width}}  {feature.type:<8}  {feature.unit or '-':<8}"
            f"  {limits:<10}  {feature.policy}, missing: {feature.missing}"
        )
