"""``davy operator``: carry ModelRollouts out on a cluster.

Belongs here: options. Not here: the operator.
"""

from __future__ import annotations

import typer

from davy.core.errors import MissingDependencyError
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
