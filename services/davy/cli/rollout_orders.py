"""``davy rollout start | pause | resume | promote | rollback``: what a person asks of a rollout.

Belongs here: options, what is said. Not here: what an order leads to (the engine), carrying an
override out where no engine runs (`davy.cli.rollout_override`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from davy.cli.rollout_override import NoEngine, Router, direct, remembered
from davy.cli.rollout_target import Because, By, Context, Namespace, Where, find, on_cluster, person
from davy.core.clock import SystemClock
from davy.core.errors import ConflictError, DeadlineError
from davy.rollout.adapters.folder_journal import RECORD, FolderJournal
from davy.rollout.adapters.folder_orders import FolderOrders
from davy.rollout.adapters.kubeconfig import connect
from davy.rollout.orders import ENDS, Order, OrderKind, order
from davy.rollout.record import DAVY, Record
from davy.rollout.record_file import read_record
from davy.rollout.spec import read_rollout
from davy.rollout.standing import Standing
from davy.rollout.state import FINAL, Phase
from davy.rollout.status import FAILED

POLL_SECONDS = 0.2


def start(
    spec: Annotated[Path, typer.Argument(help="ModelRollout file (YAML)")],
    context: Context = None,
    namespace: Namespace = None,
) -> None:
    """Start a rollout on a cluster: makes the ModelRollout, which the operator carries out.

    Without a cluster `davy rollout run` carries it out in the foreground. `davy rollout plan` tells
    before what to expect.
    """
    rollout = read_rollout(spec)
    objects, chosen = connect(context, namespace or rollout.metadata.namespace)
    from davy.rollout.adapters.cluster_rollouts import ClusterRollouts

    ClusterRollouts(objects, chosen).start(rollout)
    print(f"modelrollout {chosen}/{rollout.metadata.name} is there")
    print(f"davy rollout watch {rollout.metadata.name} -n {chosen} shows it")


def _asking(kind: OrderKind, about: str) -> Callable[..., None]:
    """Return a command that asks for one thing at the next look."""

    def command(
        where: Where,
        because: Because,
        by: By = "",
        context: Context = None,
        namespace: Namespace = None,
    ) -> None:
        _ask(kind, where, because, by, context, namespace)

    command.__name__, command.__doc__ = kind, about
    return command


pause = _asking(
    "pause", "Hold a rollout at its weight. A canary that fails is rolled back all the same."
)
resume = _asking("resume", "Let a paused rollout go on.")


def promote(
    where: Where,
    because: Because,
    by: By = "",
    package: Annotated[
        Path | None, typer.Option(help="Package of the candidate, where no rollout runs")
    ] = None,
    public_key: Annotated[Path | None, typer.Option(help="Key that it is signed for")] = None,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Take it without verifying its package")
    ] = False,
    wait: Annotated[float, typer.Option(help="Seconds to wait for it")] = 30.0,
    context: Context = None,
    namespace: Namespace = None,
) -> None:
    """Send all traffic to the candidate now, as a person decides it, whatever the evidence says.

    Who, why, and the evidence that it was done without stand in the record. Exit code: 0 when the
    router has it so, 75 when it is not so yet.
    """
    no_engine = NoEngine(package=package, public_key=public_key, no_verify=no_verify)
    _override("promote", where, because, by, context, namespace, wait, no_engine)


def rollback(
    where: Where,
    because: Because,
    by: By = "",
    to: Annotated[
        str | None, typer.Option(help="Version that gets all traffic; the stable one if left out")
    ] = None,
    traefik_file: Annotated[
        Path | None, typer.Option(help="What Traefik watches; known where a rollout ran")
    ] = None,
    traefik_api: Annotated[
        str | None, typer.Option(help="Address of Traefik's API; known where a rollout ran")
    ] = None,
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
    wait: Annotated[float, typer.Option(help="Seconds to wait for it")] = 30.0,
    context: Context = None,
    namespace: Namespace = None,
) -> None:
    """Send all traffic back now, as a person decides it; recorded with who and why.

    Neither evidence nor vetoes have a say, and the version that is left may be down. Where no
    rollout runs it is done at once, in a folder of its own if there was none. Exit code: 0 when the
    router has it so, 75 when it is not so yet.
    """
    router = Router(traefik_file, traefik_api, tuple(server or ()), entry_point)
    no_engine = NoEngine(to, package, public_key, no_verify, router)
    _override("rollback", where, because, by, context, namespace, wait, no_engine)


def _ask(
    kind: OrderKind, where: str, because: str, by: str, context: str | None, namespace: str | None
) -> None:
    clock = SystemClock()
    asked = order(kind, by=person(by), because=because, time=clock.now())
    target = find(where, context, namespace)
    _refuse_ended(target.rollouts.standing(target.name), kind)
    if target.folder is None:
        on_cluster(context, namespace).order(where, asked)
    else:
        header = read_record(target.folder / RECORD).header
        FolderOrders(target.folder).add(asked.for_record(header))
    done = f"{kind} was asked for, and is done at the next look"
    print(done if target.folder is None or _running(target.folder) else f"{done}; none runs now")


def _override(
    kind: OrderKind,
    where: str,
    because: str,
    by: str,
    context: str | None,
    namespace: str | None,
    wait: float,
    no_engine: NoEngine,
) -> None:
    clock = SystemClock()
    asked = order(kind, by=person(by), because=because, time=clock.now())
    here = no_engine.router.traefik_file is not None
    target = find(where, context, namespace, here=here)
    folder = target.folder
    if folder is None:
        _refuse_ended(target.rollouts.standing(target.name), kind)
        on_cluster(context, namespace).order(where, asked)
        print(f"{kind} was asked for, and is done at the next look of the operator")
        return
    if not _running(folder):
        print(direct(kind, folder, asked, no_engine, remembered(folder), clock))
        return
    record = read_record(folder / RECORD)
    weight = ENDS[kind]
    versions = (record.header.stable, record.header.canary)
    if no_engine.to not in (None, versions[weight == 100]):
        raise ConflictError(
            f"a rollout of {' and '.join(versions)} runs here", where=str(folder),
            fix=f"Leave --to out, or end that process before traffic goes to {no_engine.to}",
        )  # fmt: skip
    FolderOrders(folder).add(asked.for_record(record.header))
    until = clock.monotonic() + wait
    while clock.monotonic() < until:
        record = read_record(folder / RECORD)
        line = _done(record, asked)
        if line is not None:
            print(line)
            return
        clock.sleep(POLL_SECONDS)
    raise DeadlineError(
        f"{kind} was asked for, but is not done after {wait:g} s", where=str(folder),
        fix="It is done at the next look; davy rollout watch shows it",
    )  # fmt: skip


def _refuse_ended(standing: Standing, kind: OrderKind) -> None:
    """Refuse what nobody would read any more.

    Raises
    ------
    ConflictError
        The rollout has ended, or has failed for good.
    """
    if not standing.ended:
        return
    fix = f"There is nothing to {kind}"
    if standing.phase == FAILED:
        fix = (
            "Nobody looks at it any more. Delete it and its canary goes; edit it and it begins anew"
        )
    raise ConflictError(f"it has ended: {standing.phase}", where=standing.where, fix=fix)


def _done(record: Record, asked: Order) -> str | None:
    """Return what was done on an order, once the router has it so.

    Raises
    ------
    ConflictError
        The rollout had ended otherwise before anybody read it.
    """
    last = record.looks[-1].decision if record.looks else None
    if last is None or last.phase not in FINAL:
        return None
    if not any(asked.id in line.orders for line in record.looks):
        if (last.phase == Phase.PROMOTED) != (ENDS[asked.kind] == 100):
            raise ConflictError(
                f"{asked.kind} was not done: it had ended before: {last.phase}",
                where=f"rollout {record.header.rollout}",
                fix="Say it again: once its process has ended it is done at once",
            )
        return f"it had ended before: {last.phase}"
    # A later order may have overtaken it: what holds is told.
    decision = next(line.decision for line in reversed(record.looks) if line.actor != DAVY)
    to = record.header.canary if decision.weight else record.header.stable
    return f"all traffic goes to {to}: {decision.message}"


def _running(folder: Path) -> bool:
    """Return whether a process holds the folder of a rollout."""
    if not (folder / RECORD).is_file():
        return False
    try:
        with FolderJournal(folder):
            return False
    except ConflictError:
        return True
