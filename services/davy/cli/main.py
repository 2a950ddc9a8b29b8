"""The command line's root: sub-commands, and how an error reaches the terminal.

Belongs here: assembling the sub-commands, turning errors into a message and an exit code.
Not here: any command's own options.
"""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from davy.core import logging
from davy.core.errors import DavyError

# Each part adds its commands from a module of its own, with an `app`.
PARTS = {
    "task": "davy.cli.task",
    "train": "davy.cli.train",
    "pipeline": "davy.cli.pipeline",
    "package": "davy.cli.package",
    "rollout": "davy.cli.rollout",
    "operator": "davy.cli.operator",
    "detector": "davy.cli.detector",
    "monitor": "davy.cli.monitor",
    "retrain": "davy.cli.retrain",
    "slo": "davy.cli.slo",
    "dashboards": "davy.cli.dashboards",
    "doctor": "davy.cli.doctor.command",
    "demo": "davy.cli.demo.command",
}


# The exit code of a process that Ctrl-C ended, as shells have it.
INTERRUPTED = 130


def build() -> typer.Typer:
    """Return the whole command line."""
    app = typer.Typer(
        name="davy",
        help="Serve and watch models: packages, canaries, drift.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    app.callback()(_root)
    for name, module in PARTS.items():
        app.add_typer(importlib.import_module(module).app, name=name)
    return app


def program(path: str) -> str:
    """Return how a person calls the program at `path`: kubectl finds its plugins by a hyphen."""
    return "kubectl davy" if Path(path).stem == "kubectl-davy" else "davy"


def main() -> None:
    """Run the command line; an error that Davy raised becomes a line and its exit code."""
    logging.configure(style="console" if sys.stderr.isatty() else "json")
    try:
        build()(prog_name=program(sys.argv[0]))
    except DavyError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:  # while the parts are imported; typer answers it in a command
        sys.exit(INTERRUPTED)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"davy {version('davylamp')}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Say the version", callback=_version, is_eager=True),
    ] = False,
) -> None:
    pass
