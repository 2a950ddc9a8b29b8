"""``davy rollout``: run a canary without a cluster, replay and explain its record.

Belongs here: options, what is printed, exit codes. Not here: deciding, adapters.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from prometheus_client import CollectorRegistry, start_http_server

from davy.core.clock import SystemClock
from davy.core.errors import ConfigurationError, DeadlineError, IntegrityError
from davy.rollout.adapters.folder_journal import FolderJournal
from davy.rollout.adapters.folder_packages import FolderPackages
from davy.rollout.adapters.prometheus_http import PrometheusHttp
from davy.rollout.adapters.traefik_file import Route, TraefikFile
from davy.rollout.decide import Decision
from davy.rollout.engine import Engine
from davy.rollout.explain import explain as explain_record
from davy.rollout.record import read_record
from davy.rollout.replay import replay as replay_record
from davy.rollout.spec import read_rollout
from davy.rollout.state import Phase

app = typer.Typer(help="Let a candidate take over on evidence.", no_args_is_help=True)


@app.command()
def run(
    spec: Annotated[Path, typer.Argument(help="ModelRollout file (YAML)")],
    state: Annotated[Path, typer.Option(help="Folder of the decision record; continued if begun")],
    stable: Annotated[str, typer.Option(help="Version that serves now")],
    server: Annotated[list[str], typer.Option(help="VERSION=URL of a server; once for each")],
    package: Annotated[list[str], typer.Option(help="VERSION=FOLDER of a package; once for each")],
    traefik_file: Annotated[Path, typer.Option(help="Dynamic configuration that Traefik watches")],
    traefik_api: Annotated[str, typer.Option(help="Address of Traefik's API")],
    public_key: Annotated[
        Path | None, typer.Option(help="Key that packages are signed for")
    ] = None,
    entry_point: Annotated[str, typer.Option(help="Traefik's entry point")] = "web",
    metrics_port: Annotated[int, typer.Option(help="Port of /metrics; 0 for none")] = 0,
) -> None:
    """Run a rollout to its end. Exit code: 0 promoted, 1 rolled back, 75 not decided."""
    rollout = read_rollout(spec)
    clock, registry = SystemClock(), CollectorRegistry()
    source = rollout.spec.analysis.prometheus
    servers: dict[str, list[str]] = {}
    for version, url in _pairs(server, "--server"):
        servers.setdefault(version, []).append(url)
    route = Route(rollout.metadata.name, servers, entry_points=(entry_point,))
    folders = {version: Path(folder) for version, folder in _pairs(package, "--package")}
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with FolderJournal(state) as journal:
        engine = Engine(
            rollout.spec,
            name=rollout.metadata.name,
            generation=rollout.metadata.generation,
            stable=stable,
            traffic=TraefikFile(traefik_file, traefik_api, route, clock=clock),
            metrics=PrometheusHttp(source.url, clock=clock, selector=source.selector),
            journal=journal,
            packages=FolderPackages(folders, clock, public_key),
            clock=clock,
            registry=registry,
        )
        if metrics_port:
            start_http_server(metrics_port, addr="127.0.0.1", registry=registry)
        phase = engine.run(on_look=_show, stop=stop)
    if phase == Phase.PROMOTED:
        return
    where = f"rollout {rollout.metadata.name}"
    why = f"davy rollout explain {journal.path} says why"
    if phase == Phase.ROLLED_BACK:
        print(f"{where}: rolled back. {why}", file=sys.stderr)
        raise typer.Exit(1)
    raise DeadlineError(f"not decided: {phase}", where=where, fix=why)


@app.command()
def replay(record: Annotated[Path, typer.Argument(help="Decision record (record.jsonl)")]) -> None:
    """Recompute every decision from the record alone; exit code 77 at the first that differs."""
    outcome = replay_record(read_record(record))
    if outcome.difference is not None:
        raise IntegrityError(
            str(outcome.difference),
            where=str(record),
            fix="The record was changed, or was decided by another version of Davy",
        )
    print(f"{outcome.agreed} looks recomputed, all the same; ended as {outcome.state.phase}")


@app.command()
def explain(record: Annotated[Path, typer.Argument(help="Decision record (record.jsonl)")]) -> None:
    """Say in sentences and a picture what was decided, and why."""
    print(explain_record(read_record(record)), end="")


def _show(decision: Decision) -> None:
    state = decision.state
    print(
        f"look {state.looks}: {decision.action}, canary at {state.weight} % "
        f"({decision.reason}): {decision.message}",
        flush=True,
    )


def _pairs(items: Iterable[str], option: str) -> Iterable[tuple[str, str]]:
    for item in items:
        key, sign, value = item.partition("=")
        if not (sign and key and value):
            raise ConfigurationError(
                f"'{item}' is not VERSION=VALUE", where=option, fix="Write it as v1=http://…"
            )
        yield key, value
