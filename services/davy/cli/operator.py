"""``davy operator``: carry ModelRollouts out on a cluster, and get their records.

Belongs here: options, what is printed. Not here: the operator.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from davy.core.errors import MissingDependencyError, NotFoundError
from davy.rollout.adapters.kubeconfig import connect
from davy.rollout.operator.settings import OperatorSettings

app = typer.Typer(help="Carry ModelRollouts out on a cluster.", no_args_is_help=True)


@app.command()
def serve() -> None:
    """Run the operator; settings are ``DAVY_OPERATOR_*`` or ``[operator]`` in DAVY_CONFIG.

    Several may run: the one that holds the Lease acts, the others wait. Exit code 75: the Lease was
    lost; started again, it waits for it.
    """
    try:
        from davy.rollout.operator.serve import serve as run
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"the operator needs {error.name}",
            where="davy operator serve",
            fix="Install the extra: pip install 'davylamp[operator]'",
        ) from None
    run(OperatorSettings.load())


@app.command()
def record(
    name: Annotated[str, typer.Argument(help="Name of the ModelRollout")],
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Its namespace; the context's if absent")
    ] = None,
    context: Annotated[str | None, typer.Option(help="Context of the kubeconfig")] = None,
    attempt: Annotated[int, typer.Option(help="Number of the attempt; 0 is the last")] = 0,
) -> None:
    """Write the decision record of a rollout on a cluster, for `davy rollout replay` and `explain`.

    As: davy operator record NAME > record.jsonl
    """
    objects, chosen = connect(context, namespace)
    from davy.rollout.adapters.configmap_chunks import ConfigMapChunks, ConfigMapRecords
    from davy.rollout.adapters.kube_rollouts import ROLLOUTS, read_resource

    found = objects.get(ROLLOUTS, chosen, name)
    where = f"modelrollout {chosen}/{name}"
    if found is None:
        raise NotFoundError("no such rollout", where=where, fix="davy rollout status lists them")
    resource = read_resource(found)
    number = attempt or ConfigMapRecords(objects, may_write=lambda: False).attempt(resource)
    chunks = ConfigMapChunks(objects, resource, number).read() if number else ()
    if not chunks:
        raise NotFoundError(
            f"has no record of attempt {number}" if number else "has no record yet", where=where
        )
    # As they are: each line carries the hash of the one before it.
    for chunk in sorted(chunks, key=lambda item: item.number):
        sys.stdout.write(chunk.data.decode())
