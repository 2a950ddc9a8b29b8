"""A person's override where no rollout runs: checks, then the router, written down first.

Belongs here: what is checked before, which router is meant. Not here: the override itself
(`davy.rollout.back`), asking a rollout that runs (`davy.cli.rollout_orders`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from davy.core.clock import Clock
from davy.core.errors import (
    ConfigurationError,
    ConflictError,
    DavyError,
    DeadlineError,
    UnavailableError,
)
from davy.core.files import MachineWritten, read_model, to_json, write_atomic
from davy.packaging.package import read_package
from davy.rollout.adapters.folder_journal import FolderJournal
from davy.rollout.adapters.folder_orders import FolderOrders
from davy.rollout.adapters.traefik_file import Route, TraefikFile, read_route
from davy.rollout.back import Override, arms_for, begin, send_back
from davy.rollout.orders import ENDS, Order, OrderKind, pending, settled_by
from davy.rollout.record import Header, Record
from davy.rollout.vetoes import Veto

PLACES = "places.json"


class Places(MachineWritten):
    """What a rollout was run with, so that nobody has to look it up at night."""

    traefik_file: Path
    traefik_api: str
    packages: dict[str, Path]
    public_key: Path | None = None


@dataclass(frozen=True, slots=True)
class Router:
    """The router as the options name it."""

    traefik_file: Path | None = None
    traefik_api: str | None = None
    servers: tuple[str, ...] = ()
    entry_point: str = "web"


@dataclass(frozen=True, slots=True)
class NoEngine:
    """What only matters where no rollout runs; ``to`` None: the arm that the order means."""

    to: str | None = None
    package: Path | None = None
    public_key: Path | None = None
    no_verify: bool = False
    router: Router = field(default_factory=Router)


def remember(folder: Path, places: Places) -> None:
    """Keep what a rollout is run with beside its record."""
    write_atomic(folder / PLACES, to_json(places))


def remembered(folder: Path) -> Places | None:
    """Return what a rollout was run with here, None when none was."""
    path = folder / PLACES
    return read_model(path, Places) if path.exists() else None


def direct(
    kind: OrderKind,
    folder: Path,
    asked: Order,
    given: NoEngine,
    places: Places | None,
    clock: Clock,
) -> str:
    """Send all traffic to one version, and return what was done, in words.

    Raises
    ------
    ConfigurationError
        The router, a server or a package is not known.
    UnavailableError
        No server of that version is ready; nothing was changed.
    DeadlineError
        Written down, but the router has not done it yet.
    """
    file, api = _router(given.router, places)
    with _journal(folder) as journal:
        record = journal.read()
        to = given.to or _meant(kind, record, folder)
        objective, veto = _verified(to, given, places, _served_before(kind, record, to))
        route, weights = read_route(file) or (
            Route("back", {}, entry_points=(given.router.entry_point,)),
            {},
        )
        servers = {**route.servers, **servers_of(given.router.servers)}
        others = sorted(servers, key=lambda version: -weights.get(version, -1))
        traffic = TraefikFile(file, api, replace(route, servers=servers), clock=clock)
        arms = arms_for(record, to, others, where=str(folder))
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
        header = begin(journal, name=route.name, arms=arms, clock=clock, objective=objective)
        orders = (*_left_undone(folder, header, record), asked.id)
        wanted = Override(to=to, by=asked.by, why=asked.because, vetoes=(veto,), orders=orders)
        end = send_back(wanted, journal=journal, header=header, traffic=traffic, clock=clock)
        said = journal.read()
    if end.action != "finish":
        raise DeadlineError(
            f"recorded, but the router has not done it yet: {end.message}",
            where=api,
            fix="See that Traefik runs and watches the file, then say the same again",
        )
    why = said.looks[-2].decision.message if said else asked.because
    return f"all traffic goes to {to}; recorded in {journal.path}: {why}"


def _left_undone(folder: Path, header: Header, record: Record | None) -> tuple[str, ...]:
    """Return the orders that no look came to; this one overtakes them."""
    settled = settled_by(record) if record is not None else ()
    try:
        return tuple(item.id for item in pending(FolderOrders(folder).read(), header, settled))
    except DavyError:
        # A file that cannot be read must not hold up who sends traffic back.
        return ()


def _router(given: Router, places: Places | None) -> tuple[Path, str]:
    file = given.traefik_file or (places.traefik_file if places else None)
    api = given.traefik_api or (places.traefik_api if places else None)
    if file is None or api is None:
        raise ConfigurationError(
            "the router is not known: no rollout ran in this folder",
            where="--traefik-file, --traefik-api",
            fix="Name both, or the folder of the rollout",
        )
    return file, api


def _meant(kind: OrderKind, record: Record | None, folder: Path) -> str:
    if record is None:
        raise ConfigurationError(
            "no rollout was recorded here: which version is meant?",
            where=str(folder),
            fix="Say it: davy rollout rollback … --to VERSION",
        )
    return record.header.canary if ENDS[kind] else record.header.stable


def _served_before(kind: OrderKind, record: Record | None, to: str) -> bool:
    return kind == "rollback" and record is not None and to == record.header.stable


def _verified(to: str, given: NoEngine, places: Places | None, served: bool) -> tuple[float, Veto]:
    """Return the package's latency objective (0: not read) and what is known of its signature."""
    if given.no_verify:
        return 0.0, Veto("signature", True, "not verified: --no-verify was said")
    package = given.package or (places.packages.get(to) if places else None)
    key = given.public_key or (places.public_key if places else None)
    if package is None or key is None:
        if served:
            # What had all traffic when the rollout began was let in by whoever let it in.
            return 0.0, Veto("signature", True, "not verified: it served before this rollout")
        raise ConfigurationError(
            f"what '{to}' holds cannot be verified without its package and a key",
            where="--package, --public-key",
            fix="Name both, or say --no-verify",
        )
    contract = read_package(package, public_key=key).contract
    if contract.version != to:
        raise ConfigurationError(
            f"holds version '{contract.version}', not '{to}'",
            where=str(package),
            fix="Name the package of the version that gets the traffic",
        )
    return contract.rollout.latency_objective_seconds, Veto("signature", False, "verified")


def _journal(folder: Path) -> FolderJournal:
    try:
        return FolderJournal(folder)
    except ConflictError as error:
        raise ConflictError(
            error.what, where=error.where, fix="Say it again: it is asked of that process then"
        ) from None


def servers_of(items: Iterable[str]) -> dict[str, list[str]]:
    """Return the servers of each version, from VERSION=URL."""
    servers: dict[str, list[str]] = {}
    for version, url in pairs(items, "--server"):
        servers.setdefault(version, []).append(url)
    return servers


def pairs(items: Iterable[str], option: str) -> Iterable[tuple[str, str]]:
    """Yield VERSION and VALUE of each VERSION=VALUE."""
    for item in items:
        key, sign, value = item.partition("=")
        if not (sign and key and value):
            raise ConfigurationError(
                f"'{item}' is not VERSION=VALUE", where=option, fix="Write it as v1=http://…"
            )
        yield key, value
