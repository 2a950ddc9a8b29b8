"""``davy dashboards``: Grafana dashboards as files.

Belongs here: options, what is printed. Not here: panels and queries (`davy.dashboards`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from davy.cli.extras import needs
from davy.core.files import write_atomic

app = typer.Typer(help="Grafana dashboards.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Grafana dashboards."""


@app.command()
def generate(
    out: Annotated[Path, typer.Option(help="Folder to write them to, a JSON file each.")] = Path(
        "monitoring/dashboards"
    ),
) -> None:
    """Write every dashboard as JSON that Grafana imports."""
    with needs("davy dashboards generate", "dashboards"):
        from davy.dashboards.grafana import render
    from davy.dashboards.catalogue import PAGES

    for page in PAGES:
        path = out / f"{page.uid}.json"
        write_atomic(path, render(page))
        print(path)
