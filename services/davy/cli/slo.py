"""``davy slo``: from promises to Prometheus rules.

Belongs here: options, what is printed, the check against the predictor's histogram.
Not here: the rules (`davy.slo`).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from davy.core.errors import InvalidInputError
from davy.core.files import write_atomic

app = typer.Typer(help="Service level objectives.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Service level objectives."""


@app.command()
def generate(
    slo: Annotated[Path, typer.Argument(help="SLO file, as monitoring/slos/next_basket.yaml.")],
    out: Annotated[
        Path | None, typer.Option(help="Rule file to write; to the terminal when left out.")
    ] = None,
    package: Annotated[
        Path | None,
        typer.Option(help="Package whose latency objective may be a bound, beside the usual ones."),
    ] = None,
    operator: Annotated[
        bool,
        typer.Option("--operator", help="A PrometheusRule for the Prometheus operator instead."),
    ] = False,
) -> None:
    """Write recording rules, budgets and burn-rate alerts of an SLO file."""
    import yaml

    from davy.slo.rules import document, prometheus_rule
    from davy.slo.spec import read_slo

    wanted = read_slo(slo)
    for objective in wanted.objectives:
        if objective.kind == "latency":
            _check_bound(objective.seconds, package, where=f"{slo}: objective {objective.name}")
    if operator:
        resource = prometheus_rule(
            wanted,
            name=f"davy-slo-{_object_name(wanted.name or wanted.model)}",
            labels={"app.kubernetes.io/part-of": "davy"},
        )
        text = yaml.safe_dump(resource, sort_keys=False, width=100)
    else:
        text = document(wanted, Path(os.path.relpath(slo)).as_posix())
    if out is None:
        print(text, end="")
    else:
        write_atomic(out, text)
        print(out)


def _object_name(name: str) -> str:
    """Return a name as Kubernetes takes it: lower case, digits, hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _check_bound(seconds: float, package: Path | None, *, where: str) -> None:
    """Refuse a latency that no histogram counts: its alerts would never fire."""
    from davy.packaging.package import read_package
    from davy.predictor.families import SECONDS

    known = set(SECONDS)
    if package is not None:
        known.add(read_package(package).contract.rollout.latency_objective_seconds)
    if seconds not in known:
        bounds = ", ".join(f"{bound:g}" for bound in sorted(known))
        raise InvalidInputError(
            f"{seconds:g} s is no bound of the predictor's histogram ({bounds})",
            where=where,
            fix="Take one of them, or name the package with that latency objective (--package)",
        )
