"""``davy doctor``: the command.

Belongs here: options, which checks run, what is printed. Not here: the checks.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from davy.cli.doctor.finding import Finding, as_json, as_text, exit_code
from davy.core.clock import SystemClock

app = typer.Typer(help="Find what is in the way of running Davy, here and on a cluster.")


class Output(StrEnum):
    """How the report is written."""

    TEXT = "text"
    JSON = "json"


class For(StrEnum):
    """Whose rights are asked for; auto: in a pod the operator's, else those of a person."""

    AUTO = "auto"
    OPERATOR = "operator"
    PERSON = "person"


@app.callback(invoke_without_command=True)
def doctor(
    cluster: Annotated[
        bool, typer.Option("--cluster", help="Look at a cluster instead of this machine.")
    ] = False,
    context: Annotated[
        str | None, typer.Option(help="Context of the kubeconfig; implies --cluster.")
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option("--namespace", "-n", help="Of the InferenceServices; the context's if absent"),
    ] = None,
    operator_namespace: Annotated[
        str | None, typer.Option(help="Of the operator; DAVY_OPERATOR_NAMESPACE if absent")
    ] = None,
    kserve_namespace: Annotated[str, typer.Option(help="Of KServe's controller")] = "kserve",
    prometheus: Annotated[
        str | None,
        typer.Option(
            help="Prometheus as it is reached from here; DAVY_OPERATOR_PROMETHEUS_URL if absent"
        ),
    ] = None,
    rights: Annotated[
        For, typer.Option(help="Whose rights are asked for; auto: in a pod the operator's")
    ] = For.AUTO,
    output: Annotated[Output, typer.Option("--output", "-o", help="text or json")] = Output.TEXT,
) -> None:
    """Check this machine, or with --cluster a cluster: a line a check, with its remedy.

    Exit code 78 when something fails; what only warns leaves it 0.
    """
    if cluster or context is not None:
        found = _cluster(
            context, namespace, operator_namespace, kserve_namespace, prometheus, rights
        )
    else:
        from davy.cli.doctor.local_facts import look

        found = look(SystemClock())
    sys.stdout.write(as_json(found) if output == Output.JSON else as_text(found))
    if code := exit_code(found):
        raise typer.Exit(code)


def _cluster(
    context: str | None,
    namespace: str | None,
    operator_namespace: str | None,
    kserve_namespace: str,
    prometheus: str | None,
    rights: For,
) -> list[Finding]:
    from davy.cli.doctor.cluster_facts import Question, look, reach
    from davy.cli.doctor.rights import Role
    from davy.rollout.operator.settings import OperatorSettings

    settings = OperatorSettings.load()
    api, found, role = reach(context, namespace)
    question = Question(
        namespace=found,
        own=operator_namespace or settings.namespace,
        kserve=kserve_namespace,
        prometheus=prometheus or settings.prometheus_url,
        lease=settings.lease,
        role=role if rights == For.AUTO else Role(rights.value),
    )
    with api:
        return look(api, question, SystemClock())
