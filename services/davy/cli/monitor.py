"""``davy monitor``: what the detector would say of rows that are already in a table.

Belongs here: options, what is printed, the exit code. Not here: reading rows, verdicts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from davy.cli.drift_table import drift_table
from davy.cli.extras import needs

app = typer.Typer(help="Judge rows of a table as the detector would.", no_args_is_help=True)

# What a script asks for: 0 is quiet, 1 is drift; errors have codes of their own (64 and above).
ACTIVE = 1


class Output(StrEnum):
    """How the verdicts are written."""

    TABLE = "table"
    JSON = "json"


class Engine(StrEnum):
    """What measures the distances."""

    ALIBI = "alibi"
    NATIVE = "native"


@app.callback()
def group() -> None:
    """Judge rows of a table as the detector would."""


@app.command()
def drift(
    package: Annotated[Path, typer.Argument(help="The package's folder: STORE/NAME/VERSION.")],
    table: Annotated[
        Path,
        typer.Argument(help="CSV or Parquet: the features, one row an observation; any score."),
    ],
    time: Annotated[
        str, typer.Option("--time", help="Column to order the rows by. Default: as they are.")
    ] = "",
    score: Annotated[
        str, typer.Option("--score", help="Column of the score. Default: the output's name.")
    ] = "",
    engine: Annotated[
        Engine | None, typer.Option(help="alibi or native. Default: DAVY_DETECTOR_ENGINE.")
    ] = None,
    public_key: Annotated[
        Path | None,
        typer.Option("--public-key", help="Key of the signer, to check the signature."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every feature of every window.")
    ] = False,
    output: Annotated[Output, typer.Option("--output", "-o", help="table or json")] = Output.TABLE,
) -> None:
    """Show, window by window, whether a table's rows drift from a package's reference.

    Exit code 1 when drift is active after the last window, 0 when none is. The rules are the
    detector's: its settings (DAVY_DETECTOR_*) count here, too.
    """
    from davy.detector.settings import DetectorSettings
    from davy.packaging.package import read_package

    with needs("davy monitor drift", "monitor"):
        from davy.detector.packages import subject_of
        from davy.detector.recorded import document, judge_rows, read_rows

    given: dict[str, Any] = {"store": package.parent}
    if engine is not None:
        given["engine"] = engine.value
    if public_key is not None:
        given["public_key"] = public_key
    settings = DetectorSettings.load(**given)
    found = read_package(package, public_key=settings.public_key)
    rows = read_rows(table, found.contract, time=time, score=score)
    subject = subject_of(found, settings)
    report = document(subject, judge_rows(subject, rows, where=str(table)))
    if output == Output.JSON:
        print(json.dumps(report, indent=2))
    else:
        _show(Console(), report, everything=everything)
    if report["active"]:
        raise typer.Exit(ACTIVE)


def _show(console: Console, report: dict[str, Any], *, everything: bool) -> None:
    windows = report["windows"]
    console.print(
        f"{report['model']} {report['version']}: {len(windows)} window(s) of "
        f"{report['window_rows']} rows",
        markup=False,
    )
    console.print(_overview(windows))
    judged = [n for n, window in enumerate(windows) if window["status"] != "insufficient"]
    for number in range(len(windows)) if everything else judged[-1:]:
        window = windows[number]
        active = {(item["feature"], item["detector"]) for item in window["active"]}
        shown = drift_table(window["features"], active, everything=everything)
        if shown.row_count:
            console.print(f"window {number + 1}:", markup=False)
            console.print(shown)
    if report["too_coarse"]:
        console.print(
            f"cannot alarm alone, as the package holds too few past distances: "
            f"{_names(report['too_coarse'])}",
            markup=False,
        )
    console.print(_conclusion(report), markup=False)


def _overview(windows: Sequence[dict[str, Any]]) -> Table:
    timed = windows[0]["start"] is not None
    table = Table(
        "window", "rows", *(("from", "to") if timed else ()), "verdict", "drifted", "active"
    )
    for number, window in enumerate(windows, start=1):
        drifted = [item for item in window["features"] if item["status"] == "drift"]
        status = window["status"]
        table.add_row(
            str(number),
            f"{window['first_row']}-{window['last_row']}",
            *((str(window["start"]), str(window["end"])) if timed else ()),
            f"{status}: {window['reason']}" if window["reason"] else status,
            escape(_names(drifted)),
            escape(_names(window["active"])),
        )
    return table


def _conclusion(report: dict[str, Any]) -> str:
    if report["active"]:
        return f"drift is active: {_names(report['active'])}"
    before = [str(n) for n, window in enumerate(report["windows"], start=1) if window["active"]]
    past = f"; it was after window {', '.join(before)}" if before else ""
    return f"no drift is active{past}"


def _names(items: Sequence[dict[str, Any]]) -> str:
    return ", ".join(f"{item['feature']} ({item['detector']})" for item in items)
