"""Which rollout is meant: one that runs here, by its folder, or one of a cluster, by its name.

Belongs here: telling them apart, the options that all commands share. Not here: what is done to it.
"""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from davy.core.errors import ConfigurationError
from davy.rollout.adapters.folder_journal import RECORD
from davy.rollout.adapters.folder_rollouts import FolderRollouts
from davy.rollout.adapters.kubeconfig import connect
from davy.rollout.record import Record
from davy.rollout.record_file import read_record
from davy.rollout.standing import Rollouts

if TYPE_CHECKING:
    # Needs the Kubernetes client, which is not everywhere.
    from davy.rollout.adapters.cluster_rollouts import ClusterRollouts

WhichRecord = Annotated[
    str,
    typer.Argument(
        metavar="RECORD|FOLDER|NAME", help="record.jsonl, its folder, or a name on a cluster"
    ),
]

Where = Annotated[
    str,
    typer.Argument(metavar="FOLDER|NAME", help="Folder of its record, or its name on a cluster"),
]
Context = Annotated[str | None, typer.Option(help="Context of the kubeconfig, for a cluster")]
Namespace = Annotated[str | None, typer.Option("--namespace", "-n", help="Namespace, on a cluster")]
Because = Annotated[str, typer.Option(help="Why; stands in the record")]
By = Annotated[str, typer.Option(help="Who decides; your login name when left out")]


@dataclass(frozen=True, slots=True)
class Target:
    """Rollouts and the one that is meant; ``folder`` is None on a cluster."""

    rollouts: Rollouts
    name: str
    folder: Path | None = None


def folder_of(where: str) -> Path | None:
    """Return the folder that is meant, None for a name on a cluster."""
    path = Path(where)
    if path.name == RECORD:
        return path.parent
    return path if path.is_dir() or "/" in where else None


def find(where: str, context: str | None, namespace: str | None, *, here: bool = False) -> Target:
    """Return the rollout that is meant; `here` says that only a folder can be."""
    folder = None if context or namespace else folder_of(where)
    if here:
        folder = Path(where)
    if folder is not None:
        return Target(FolderRollouts(folder), ".", folder)
    return Target(on_cluster(context, namespace), where)


def on_cluster(context: str | None, namespace: str | None) -> ClusterRollouts:
    """Return the rollouts of a namespace; needs the Kubernetes client."""
    objects, chosen = connect(context, namespace)
    # Only now: the module needs the client, too.
    from davy.rollout.adapters.cluster_rollouts import ClusterRollouts

    return ClusterRollouts(objects, chosen)


def record_of(where: str, context: str | None, namespace: str | None) -> tuple[Record, str]:
    """Return the decision record that is meant, and its place."""
    path = Path(where)
    if context or namespace or not (path.exists() or "/" in where or path.suffix == ".jsonl"):
        return on_cluster(context, namespace).record(where), f"modelrollout {where}"
    path = path / RECORD if path.is_dir() else path
    return read_record(path), str(path)


def person(by: str) -> str:
    """Return who decides."""
    if by:
        return by
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise ConfigurationError(
            "this login has no name", where="--by", fix="Say who decides"
        ) from None
