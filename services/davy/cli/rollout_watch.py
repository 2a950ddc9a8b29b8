"""``davy rollout status`` and ``watch``: where rollouts stand, once or live.

Belongs here: options, the loop. Not here: what is shown (`davy.cli.rollout_view`).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from davy.cli.rollout_target import Context, Namespace, Target, Where, find, folder_of, on_cluster
from davy.cli.rollout_view import WIDTH, row, told, view
from davy.core.clock import SystemClock
from davy.core.errors import NotFoundError, TemporaryError
from davy.rollout.adapters.folder_rollouts import FolderRollouts
from davy.rollout.standing import Rollouts, Standing

_STYLES = {"fail": "bold red", "pass": "green", "inconclusive": "yellow"}


def status(
    where: Annotated[
        str | None,
        typer.Argument(
            metavar="FOLDER|NAME",
            help="One rollout, or a folder of several; a cluster's when empty",
        ),
    ] = None,
    context: Context = None,
    namespace: Namespace = None,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON document")] = False,
) -> None:
    """Say where a rollout stands; of several, one line each."""
    rollouts, names = _meant(where, context, namespace)
    found = [rollouts.standing(name) for name in names]
    if as_json:
        documents = [asdict(item) for item in found]
        print(json.dumps(documents if where is None else documents[0], default=str, indent=2))
    elif len(found) == 1 and where is not None:
        print("\n".join(view(found[0], SystemClock().now())))
    else:
        for item in found:
            print(row(item))


def _meant(
    where: str | None, context: str | None, namespace: str | None
) -> tuple[Rollouts, list[str]]:
    if where is None:
        rollouts = on_cluster(context, namespace)
        return rollouts, list(rollouts.names())
    folder = None if context or namespace else folder_of(where)
    if folder is None:
        return on_cluster(context, namespace), [where]
    below: Rollouts = FolderRollouts(folder)
    names = list(below.names())
    if not names:
        raise NotFoundError(
            "no decision record here", where=str(folder),
            fix="Name the folder that davy rollout run was given as --state",
        )  # fmt: skip
    return below, names


def watch(
    where: Where,
    context: Context = None,
    namespace: Namespace = None,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two readings")] = 2.0,
) -> None:
    """Show a rollout live until it ends: weights, bounds, requests still needed.

    In a pipe it writes a line for each thing that happens. Exit code: 0 when it has ended, as
    promoted or otherwise; 130 after Ctrl-C.
    """
    target = find(where, context, namespace)
    if sys.stdout.isatty():
        _live(target, every)
    else:
        for line in lines(_standings(target, every, time.sleep)):
            print(line, flush=True)


def _standings(
    target: Target, every: float, wait: Callable[[float], None]
) -> Iterator[Standing | TemporaryError]:
    """Yield where it stands, or why that is not known now, until it has ended."""
    while True:
        try:
            standing = target.rollouts.standing(target.name)
        except TemporaryError as error:
            yield error
        else:
            yield standing
            if standing.ended:
                return
        wait(every)


def _live(target: Target, every: float) -> None:
    console, clock = Console(), SystemClock()
    with Live(console=console, auto_refresh=False, screen=False) as shown:
        last: Standing | None = None
        for item in _standings(target, every, time.sleep):
            if isinstance(item, Standing):
                last, note = item, ""
            else:
                note = f"not read: {item}"
            shown_lines = list(view(last, clock.now())) if last is not None else []
            shown.update(_styled([*shown_lines, note, "Ctrl-C ends this view, not the rollout"]))
            shown.refresh()


def _styled(parts: list[str]) -> Text:
    text = Text(no_wrap=True)
    for line in parts:
        style = next((_STYLES[word] for word in _STYLES if line.split("  ")[0].endswith(word)), "")
        text.append(line[:WIDTH] + "\n", style=style)
    return text


def lines(standings: Iterator[Standing | TemporaryError]) -> Iterator[str]:
    """Yield a line for each thing that happens, and for what keeps it from being seen."""
    said: set[str] = set()
    trouble = ""
    for item in standings:
        if isinstance(item, TemporaryError):
            if str(item) != trouble:
                yield f"not read: {item}"
            trouble = str(item)
            continue
        trouble = ""
        for happened in item.happened:
            key = f"{happened.time.isoformat()} {happened.what} {happened.reason}"
            if key not in said:
                said.add(key)
                yield told(happened)
        if item.ended:
            yield f"{item.name}: {item.phase}"
