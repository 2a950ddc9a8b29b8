"""``davy rollout``: run a canary without a cluster, override it, replay and explain its record.

Belongs here: options, what is printed, exit codes. Not here: deciding, adapters.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from prometheus_client import CollectorRegistry, start_http_server

from davy.cli import rollout_plan
from davy.core.clock import SystemClock
from davy.core.errors import (
    ConfigurationError,
    ConflictError,
    DeadlineError,
    IntegrityError,
    UnavailableError,
)
from davy.packaging.package import read_package
from davy.rollout.adapters.folder_journal import RECORD, FolderJournal
from davy.rollout.adapters.folder_packages import FolderPackages
from davy.rollout.adapters.prometheus_http import PrometheusHttp
from davy.rollout.adapters.traefik_file import Route, TraefikFile, read_route
from davy.rollout.back import Override, arms_for, begin, send_back
from davy.rollout.decide import Decision
from davy.rollout.engine import Engine
from davy.rollout.explain import explain as explain_record
from davy.rollout.picture import record_picture, write_picture
from davy.rollout.record import read_record
from davy.rollout.replay import replay as replay_record
from davy.rollout.spec import read_rollout
from davy.rollout.state import Phase
from davy.rollout.vetoes import Veto

app = typer.Typer(help="Let a candidate take over on evidence.", no_args_is_help=True)
app.command("plan")(rollout_plan.command)


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
    """Run a rollout to its end. Exit code: 0 promoted, 1 rolled back, 75 stopped before.

    With onInconclusive: Hold it goes on after the deadline: a canary that is held is watched, and
    rolled back when it fails, until a person ends it (`davy rollout back`) or this command.
    """
    rollout = read_rollout(spec)
    clock, registry = SystemClock(), CollectorRegistry()
    source = rollout.spec.analysis.prometheus
    servers = _servers(server)
    route = Route(rollout.metadata.name, servers, entry_points=(entry_point,))
    folders = {version: Path(folder) for version, folder in _pairs(package, "--package")}
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
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
        )
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
def back(
    to: Annotated[str, typer.Option(help="Version that gets all traffic")],
    by: Annotated[str, typer.Option(help="Who decides this")],
    why: Annotated[str, typer.Option(help="Why")],
    state: Annotated[Path, typer.Option(help="Folder of the decision record; continued if begun")],
    traefik_file: Annotated[Path, typer.Option(help="Dynamic configuration that Traefik watches")],
    traefik_api: Annotated[str, typer.Option(help="Address of Traefik's API")],
    server: Annotated[
        list[str] | None,
        typer.Option(help="VERSION=URL of a server that is not in the file yet; once for each"),
    ] = None,
    package: Annotated[
        Path | None, typer.Option(help="Package of the version that gets all traffic")
    ] = None,
    public_key: Annotated[Path | None, typer.Option(help="Key that it is signed for")] = None,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Take the version without verifying its package")
    ] = False,
    entry_point: Annotated[str, typer.Option(help="Traefik's entry point, for a new file")] = "web",
) -> None:
    """Send all traffic to one version now, as a person decides it; recorded with who and why.

    Neither evidence nor vetoes have a say, and the other version may be down. The version that gets
    the traffic must be ready. Exit code: 0 when the router has it so, 75 when it is not so yet.
    """
    clock = SystemClock()
    objective, veto = _verified(to, package, public_key, no_verify=no_verify)
    wanted = Override(to=to, by=by, why=why, vetoes=(veto,))
    found, weights = read_route(traefik_file) or (
        Route("back", {}, entry_points=(entry_point,)),
        {},
    )
    servers = {**found.servers, **_servers(server or [])}
    others = sorted(servers, key=lambda version: -weights.get(version, -1))
    traffic = TraefikFile(traefik_file, traefik_api, replace(found, servers=servers), clock=clock)
    with _journal_to_override(state) as journal:
        arms = arms_for(journal.read(), to, others, where=str(state))
        for version in (arms.stable, arms.canary):
            if version not in servers:
                raise ConfigurationError(
                    f"no server of version '{version}'",
                    where="--server",
                    fix=f"Add --server {version}=URL; that of the version that is left may be down",
                )
        if not traffic.answers(to):
            raise UnavailableError(
                f"no server of version '{to}' is ready",
                where=", ".join(servers[to]),
                fix="Nothing was changed: start it first",
            )
        header = begin(journal, name=found.name, arms=arms, clock=clock, objective=objective)
        end = send_back(wanted, journal=journal, header=header, traffic=traffic, clock=clock)
    if end.action != "finish":
        raise DeadlineError(
            f"recorded, but the router has not done it yet: {end.message}",
            where=traefik_api,
            fix="See that Traefik runs and watches the file, then say the same again",
        )
    print(f"all traffic goes to {to}; recorded in {journal.path}")


@app.command()
def replay(
    record: Annotated[Path, typer.Argument(help="Decision record (record.jsonl), or its folder")],
) -> None:
    """Recompute every decision from the record alone; exit code 77 at the first that differs."""
    outcome = replay_record(read_record(_record_file(record)))
    if outcome.difference is not None:
        raise IntegrityError(
            str(outcome.difference),
            where=str(record),
            fix="The record was changed, or was decided by another version of Davy",
        )
    print(f"{outcome.agreed} looks recomputed, all the same; ended as {outcome.state.phase}")


@app.command()
def explain(
    record: Annotated[Path, typer.Argument(help="Decision record (record.jsonl), or its folder")],
    picture: Annotated[
        Path | None, typer.Option(help="Draw the bounds over time here: FILE.svg or FILE.html")
    ] = None,
) -> None:
    """Say in sentences and a picture what was decided, and why.

    The record is replayed first. One whose decisions do not follow from it is told all the same,
    with a warning, and the exit code is 77.
    """
    found = read_record(_record_file(record))
    outcome = replay_record(found)
    text = explain_record(found, outcome)
    print(text, end="")
    if picture is not None:
        title = f"Rollout {found.header.rollout}"
        write_picture(picture, record_picture(found, outcome), title=title, text=text)
        print(f"picture: {picture}")
    if outcome.difference is not None:
        raise typer.Exit(IntegrityError.exit_code)


def _record_file(path: Path) -> Path:
    return path / RECORD if path.is_dir() else path


def _show(decision: Decision) -> None:
    state = decision.state
    print(
        f"look {state.looks}: {decision.action}, canary at {state.weight} % "
        f"({decision.reason}): {decision.message}",
        flush=True,
    )


def _serve_metrics(port: int, registry: CollectorRegistry) -> None:
    try:
        start_http_server(port, addr="127.0.0.1", registry=registry)
    except OSError as error:
        raise ConflictError(
            f"port {port} cannot be listened on ({error.strerror})",
            where="--metrics-port",
            fix="End what listens there, or name another port; 0 is none",
        ) from None


def _verified(
    to: str, package: Path | None, public_key: Path | None, *, no_verify: bool
) -> tuple[float, Veto]:
    """Return the package's latency objective (0: not read) and what is known of its signature."""
    if no_verify:
        return 0.0, Veto("signature", True, "not verified: --no-verify was said")
    if package is None or public_key is None:
        raise ConfigurationError(
            f"what '{to}' holds cannot be verified without its package and a key",
            where="--package, --public-key",
            fix="Name both, or say --no-verify",
        )
    contract = read_package(package, public_key=public_key).contract
    if contract.version != to:
        raise ConfigurationError(
            f"holds version '{contract.version}', not '{to}'",
            where=str(package),
            fix="Name the package of the version that gets the traffic",
        )
    return contract.rollout.latency_objective_seconds, Veto("signature", False, "verified")


def _journal_to_override(state: Path) -> FolderJournal:
    try:
        return FolderJournal(state)
    except ConflictError as error:
        raise ConflictError(
            error.what,
            where=error.where,
            fix="End that process first: it would ask the router for its own weights",
        ) from None


def _servers(items: Iterable[str]) -> dict[str, list[str]]:
    servers: dict[str, list[str]] = {}
    for version, url in _pairs(items, "--server"):
        servers.setdefault(version, []).append(url)
    return servers


def _pairs(items: Iterable[str], option: str) -> Iterable[tuple[str, str]]:
    for item in items:
        key, sign, value = item.partition("=")
        if not (sign and key and value):
            raise ConfigurationError(
                f"'{item}' is not VERSION=VALUE", where=option, fix="Write it as v1=http://…"
            )
        yield key, value
