"""``davy detector``: serve it, and read what it says.

Belongs here: options and what is printed. Not here: the service.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console

from davy.cli.drift_table import drift_table
from davy.cli.extras import needs
from davy.core.errors import InvalidInputError, UnavailableError
from davy.detector.settings import DetectorSettings

app = typer.Typer(help="Watch what the models are asked: drift.", no_args_is_help=True)


@app.command()
def serve() -> None:
    """Serve the detector; settings are ``DAVY_DETECTOR_*`` or ``[detector]`` in DAVY_CONFIG."""
    with needs("davy detector serve", "native"):
        from davy.detector.serve import serve as run

    run(DetectorSettings.load())


@app.command()
def windows(
    url: Annotated[
        str, typer.Option(envvar="DAVY_DETECTOR_URL", help="Address of the detector.")
    ] = "http://127.0.0.1:8090",
    everything: Annotated[
        bool, typer.Option("--all", help="Every feature, not only those near or above the floor.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="What the detector says, as it is.")
    ] = False,
) -> None:
    """Show each version's last window: what drifted, by how much, and what it looks like."""
    report = fetch(url)
    if as_json:
        print(json.dumps(report, indent=2))
        return
    console = Console(width=None)
    for version in report["versions"]:
        _show(console, version, everything=everything)
    for item in report["not_watched"]:
        console.print(f"not watched: {item['version']}: {item['message']}", markup=False)
    if report["dropped"]:
        dropped = ", ".join(f"{reason} {n}" for reason, n in sorted(report["dropped"].items()))
        console.print(f"events dropped: {dropped}", markup=False)
    if not report["versions"]:
        console.print("no version has been heard of yet")


def fetch(url: str) -> Any:
    """Return the detector's report.

    Raises
    ------
    UnavailableError
        Nothing answers there.
    InvalidInputError
        Something else than a detector answers there.
    """
    where = f"{url.rstrip('/')}/windows"
    try:
        answer = httpx.get(where, timeout=5)
        answer.raise_for_status()
        report = answer.json()
        if not {"versions", "not_watched", "dropped"} <= set(report):
            raise InvalidInputError("this is no detector's answer", where=where)
    except httpx.InvalidURL as error:
        raise InvalidInputError(str(error), where=where) from None
    except httpx.HTTPError as error:
        raise UnavailableError(
            f"no answer from the detector ({error})",
            where=where,
            fix="Start it with 'davy detector serve', or name it with --url",
        ) from None
    except ValueError:
        raise InvalidInputError("this is no detector's answer", where=where) from None
    return report


def _show(console: Console, version: dict[str, Any], *, everything: bool) -> None:
    title = f"{version['model']} {version['version']}"
    filling = f"next window {version['rows']} of {version['window_rows']} rows"
    if not version["windows"]:
        console.print(f"{title}: no window yet, {filling}", markup=False)
        return
    last = version["windows"][-1]
    kept = len(version["windows"])
    start, end = _moment(last["start"]), _moment(last["end"])
    console.print(
        f"{title}: {last['status']}\n"
        f"  {last['rows']} rows, {start} to {end} UTC; {kept} window{'s' * (kept > 1)} kept, "
        f"{filling}",
        markup=False,
    )
    active = {(item["feature"], item["detector"]) for item in version["active"]}
    table = drift_table(last["features"], active, everything=everything)
    if table.row_count:
        console.print(table)


def _moment(text: str) -> str:
    """Return an ISO time to the second, without what every line would repeat."""
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
