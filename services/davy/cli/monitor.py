"""``davy monitor``: a table's rows as the detector would judge them, and as its measure.

Belongs here: options, what is printed, the exit code. Not here: reading rows, verdicts,
calibrating.
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
from davy.core.clock import SystemClock

app = typer.Typer(
    help="Judge a table's rows as the detector would; calibrate a package.", no_args_is_help=True
)

# What a script asks for: 0 is quiet, 1 is drift; errors have codes of their own (64 and above).
ACTIVE = 1


Folder = Annotated[Path, typer.Argument(help="The package's folder: STORE/NAME/VERSION.")]
PublicKey = Annotated[
    Path | None, typer.Option("--public-key", help="Key of the signer, to check the signature.")
]


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
    """Judge a table's rows as the detector would; calibrate a package."""


@app.command()
def drift(
    package: Folder,
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
    public_key: PublicKey = None,
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

    with needs("davy monitor drift", "native"):
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


@app.command()
def calibrate(
    package: Folder,
    table: Annotated[
        Path, typer.Argument(help="CSV or Parquet: the features of past rows, one an observation.")
    ],
    block: Annotated[
        str, typer.Option("--block", help="Column that is the same for all rows of a week, say.")
    ],
    score: Annotated[
        str, typer.Option("--score", help="Column of the score. Default: the model computes it.")
    ] = "",
    store: Annotated[
        Path | None, typer.Option("--store", help="Where to write it. Default: beside PACKAGE.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", help="Key that signs the new version.")
    ] = None,
    public_key: PublicKey = None,
) -> None:
    """Write a new version of a package whose alarms are calibrated on other past rows.

    The rows become its reference, what is usual is measured between their blocks. Model, metrics
    and outlier scorer stay, and so does the package that was named.
    """
    from davy.packaging.package import read_package

    with needs("davy monitor calibrate", "monitor"):
        from davy.detector.packages import calibrated
        from davy.detector.recorded import past_rows
        from davy.drift.judge import Rules, too_coarse
        from davy.training.recalibrate import PastRows, recalibrate

    found = read_package(package, public_key=public_key)
    columns, blocks = past_rows(table, found.contract, block=block, score=score)
    written = recalibrate(
        found,
        PastRows(columns, blocks, where=f"{table}: blocks of '{block}'"),
        store=store or package.absolute().parent.parent,
        created=SystemClock().now(),
        private_key=key,
    )
    calibration = written.contract.calibration
    print(f"{blocks.size} rows in {calibration.blocks} blocks, {len(calibration.nulls)} nulls")
    rules = Rules(window_rows=calibration.window_rows)
    if coarse := too_coarse(calibrated(calibration), rules):
        print(f"{len(coarse)} of them cannot alarm alone: more blocks are needed")
    if found.signed and not written.signed:
        print("not signed, as the package was: give --key")
    print(written.path)


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
