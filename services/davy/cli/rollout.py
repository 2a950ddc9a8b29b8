"""``davy rollout``: run a canary without a cluster, override it, replay and explain its record.

Belongs here: options, what is printed, exit codes. Not here: deciding, adapters.
"""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer
from prometheus_client import CollectorRegistry, start_http_server

from davy.cli import rollout_orders, rollout_plan, rollout_watch
from davy.cli.rollout_override import Places, pairs, remember, servers_of
from davy.cli.rollout_target import Context, Namespace, WhichRecord, record_of
from davy.cli.rollout_view import LookLines
from davy.core.clock import SystemClock
from davy.core.errors import (
    ConflictError,
    DeadlineError,
    IntegrityError,
)
from davy.rollout.adapters.folder_journal import FolderJournal
from davy.rollout.adapters.folder_orders import FolderOrders
from davy.rollout.adapters.folder_packages import FolderPackages
from davy.rollout.adapters.prometheus_http import PrometheusHttp
from davy.rollout.adapters.shadow_file import ShadowFile
from davy.rollout.adapters.traefik_file import Route, TraefikFile
from davy.rollout.engine import Engine
from davy.rollout.explain import explain as explain_record
from davy.rollout.picture import record_picture, write_picture
from davy.rollout.replay import replay as replay_record
from davy.rollout.spec import read_rollout
from davy.rollout.state import Phase

app = typer.Typer(help="Let a candidate take over on evidence.", no_args_is_help=True)
app.command("plan")(rollout_plan.command)
for _command in (
    rollout_orders.start,
    rollout_watch.status,
    rollout_watch.watch,
    rollout_orders.pause,
    rollout_orders.resume,
    rollout_orders.promote,
    rollout_orders.rollback,
):
    app.command()(_command)


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
    shadow_file: Annotated[
        Path | None,
        typer.Option(help="For spec.shadow: where the detector reads which candidate to ask"),
    ] = None,
) -> None:
    """Run a rollout to its end. Exit code: 0 promoted, 1 rolled back, 75 or 130 stopped before.

    With onInconclusive: Hold it goes on after the deadline: a canary that is held is watched, and
    rolled back when it fails, until a person ends it (`davy rollout rollback`) or this command.
    While it runs, `davy rollout watch`, `pause` and the like reach it by the folder of --state.
    """
    rollout = read_rollout(spec)
    clock, registry = SystemClock(), CollectorRegistry()
    source = rollout.spec.analysis.prometheus
    servers = servers_of(server)
    route = Route(rollout.metadata.name, servers, entry_points=(entry_point,))
    folders = {version: Path(folder) for version, folder in pairs(package, "--package")}
    stop, caught = threading.Event(), list[int]()

    def end(number: int, _: object) -> None:
        caught.append(number)
        stop.set()

    for wanted in (signal.SIGINT, signal.SIGTERM):
        signal.signal(wanted, end)
    if metrics_port:
        _serve_metrics(metrics_port, registry)
    with FolderJournal(state) as journal:
        engine = Engine(
            rollout.spec,
            name=rollout.metadata.name,
            generation=rollout.metadata.generation,
            stable=stable,
            traffic=TraefikFile(traefik_file, traefik_api, route, clock=clock),
            metrics=PrometheusHttp(
                source.url,
                clock=clock,
                selector=source.selector,
                segments=rollout.spec.segment_labels(),
            ),
            journal=journal,
            packages=FolderPackages(folders, clock, public_key),
            clock=clock,
            registry=registry,
            orders=FolderOrders(state),
            shadow=ShadowFile(shadow_file, servers) if shadow_file else None,
        )
        remember(
            state,
            Places(
                traefik_file=traefik_file.absolute(),
                traefik_api=traefik_api,
                packages={name: path.absolute() for name, path in folders.items()},
                public_key=public_key.absolute() if public_key else None,
            ),
        )
        lines = LookLines(lambda line: print(line, flush=True))
        phase = engine.run(on_look=lines.show, stop=stop)
        lines.close()
    if phase == Phase.PROMOTED:
        return
    where = f"rollout {rollout.metadata.name}"
    why = f"davy rollout explain {journal.path} says why"
    if phase == Phase.ROLLED_BACK:
        print(f"{where}: rolled back. {why}", file=sys.stderr)
        raise typer.Exit(1)
    if signal.SIGINT in caught:
        print(f"{where}: stopped, not decided: {phase}. Run again, it goes on", file=sys.stderr)
        raise typer.Exit(130)
    raise DeadlineError(f"not decided: {phase}", where=where, fix=why)


@app.command()
def replay(record: WhichRecord, context: Context = None, namespace: Namespace = None) -> None:
    """Recompute every decision from the record alone; exit code 77 at the first that differs."""
    found, where = record_of(record, context, namespace)
    outcome = replay_record(found)
    if outcome.difference is not None:
        raise IntegrityError(
            str(outcome.difference),
            where=where,
            fix="The record was changed, or was decided by another version of Davy",
        )
    ended = f"ended as {outcome.state.phase}; {found.chain}"
    print(f"{outcome.agreed} looks recomputed, all the same; {ended}")


@app.command()
def explain(
    record: WhichRecord,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the bounds over time here: FILE.svg or FILE.html")
    ] = None,
    context: Context = None,
    namespace: Namespace = None,
) -> None:
    """Say in sentences and a picture what was decided, and why.

    The record is replayed first. One whose decisions do not follow from it is told all the same,
    with a warning, and the exit code is 77.
    """
    found, _ = record_of(record, context, namespace)
    outcome = replay_record(found)
    text = explain_record(found, outcome)
    print(text, end="")
    if picture is not None:
        title = f"Rollout {found.header.rollout}"
        write_picture(picture, record_picture(found, outcome), title=title, text=text)
        print(f"picture: {picture}")
    if outcome.difference is not None:
        raise typer.Exit(IntegrityError.exit_code)


def _serve_metrics(port: int, registry: CollectorRegistry) -> None:
    try:
        start_http_server(port, addr="127.0.0.1", registry=registry)
    except OSError as error:
        raise ConflictError(
            f"port {port} cannot be listened on ({error.strerror})",
            where="--metrics-port",
            fix="End what listens there, or name another port; 0 is none",
        ) from None
