"""``davy rollout plan``: what is to be expected of a rollout before it is started.

Belongs here: options, the tables in the terminal. Not here: the plan (`davy.rollout.plan`).
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from davy.core.clock import Clock, SystemClock
from davy.core.errors import ConfigurationError
from davy.packaging.package import read_package
from davy.rollout.adapters.folder_journal import RECORD
from davy.rollout.adapters.prometheus_http import PrometheusHttp
from davy.rollout.indicators import BY_REQUEST, split_name
from davy.rollout.picture import plan_picture, write_picture
from davy.rollout.plan import PLANNED, Chance, Plan, Traffic, duration, plan, traffic_of, words
from davy.rollout.record import LookLine
from davy.rollout.record_file import read_record
from davy.rollout.replay import resume
from davy.rollout.series import Arms
from davy.rollout.spec import RolloutSpec, read_rollout

MEASURED_SECONDS = 300.0
WIDTH = 79


def command(
    what: Annotated[
        Path,
        typer.Argument(metavar="SPEC|RECORD", help="ModelRollout file, or the record of a rollout"),
    ],
    rate: Annotated[
        float | None,
        typer.Option(help="Requests a second to both arms; measured in Prometheus when left out"),
    ] = None,
    events: Annotated[
        list[str] | None,
        typer.Option(help="INDICATOR=SHARE of the stable arm's requests, as errors=0.002"),
    ] = None,
    stable: Annotated[
        str | None, typer.Option(help="Version that serves now; needed to measure")
    ] = None,
    package: Annotated[
        Path | None, typer.Option(help="Candidate's package: its indicators and latency objective")
    ] = None,
    prometheus: Annotated[
        str | None, typer.Option(help="Address of Prometheus; the spec's when left out")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the power curves here: FILE.svg or FILE.html")
    ] = None,
    runs: Annotated[int, typer.Option(min=20, help="Simulated rollouts for each number")] = 200,
    seed: Annotated[int, typer.Option(help="Seed of the simulation")] = 0,
) -> None:
    """Tell how long a rollout takes at the present traffic, and what defects it can find.

    Exit code: 0, or 1 when the deadline is too short for a healthy canary.
    """
    spec, objective, seen = _asked(what, package)
    shares = dict(_shares(events or ()))
    traffic = seen if rate is None else Traffic(rate, {}, "as said")
    if traffic is None:
        address = prometheus or spec.analysis.prometheus.url
        traffic = _measured(spec, address, stable, objective, SystemClock())
    if shares:
        traffic = replace(traffic, stable={**traffic.stable, **shares})
    made = plan(spec, traffic, runs=runs, seed=seed)
    text = "\n".join(lines(made))
    print(text)
    if picture is not None:
        title = f"Plan of {spec.candidate.version}"
        write_picture(picture, plan_picture(made), title=title, text=text)
        print(f"picture: {picture}")
    if not made.enough:
        sys.stdout.flush()
        raise typer.Exit(1)


def _counted(arms: Arms, weight: int | None) -> float:
    """Return the part of all requests that a record counts: those of the arms it compares."""
    shares = arms.shares(weight or 0)
    return (shares.canary + shares.baseline) / 100 if arms.baseline else 1.0


def _requests(look: LookLine) -> int | None:
    """Return the requests of a look; None where it counted rows, labels or copies alone."""
    # At weight 0 the canary answers copies of requests, which are no traffic.
    served = look.weights.read != 0
    return max(
        (
            item.stable.n + (item.canary.n if served else 0)
            for item in look.intervals.counts
            if split_name(item.indicator)[0] in BY_REQUEST
        ),
        default=None,
    )


def _asked(what: Path, package: Path | None) -> tuple[RolloutSpec, float, Traffic | None]:
    """Return the spec, the latency objective, and the traffic that a record has seen."""
    path = what / RECORD if what.is_dir() else what
    if path.suffix == ".jsonl":
        record = read_record(path)
        state, spec = resume(record), record.spec()
        totals = {name: item.totals for name, item in state.evidence.items()}
        stable = {name: item.k_stable / item.n_stable for name, item in totals.items()
                  if item.n_stable}  # fmt: skip
        arms = record.header.arms()
        spans = [
            (look.intervals, found / told)
            for look in record.looks
            if (found := _requests(look)) is not None
            and (told := _counted(arms, look.weights.read))
        ]
        seconds = sum((item.end or 0.0) - (item.start or 0.0) for item, _ in spans)
        requests = sum(number for _, number in spans)
        seen = Traffic(requests / seconds, stable, f"as in {path}") if seconds > 0 else None
        return spec, record.header.latency_objective_seconds, seen
    rollout = read_rollout(path)
    if package is None:
        if not rollout.spec.analysis.indicators:
            raise ConfigurationError(
                "names no indicators", where=str(path),
                fix="Name some, or a package of the candidate that does: --package FOLDER",
            )  # fmt: skip
        return rollout.spec, 0.0, None
    gate = read_package(package).contract.rollout
    spec = rollout.spec.with_indicators(list(gate.indicators))
    return spec, gate.latency_objective_seconds, None


def _measured(
    spec: RolloutSpec, address: str, stable: str | None, objective: float, clock: Clock
) -> Traffic:
    if stable is None:
        raise ConfigurationError(
            "the traffic is not known", where="--rate",
            fix="Say it, or name the version that serves now: --stable VERSION",
        )  # fmt: skip
    if not objective and any(item.name == "slow" for item in spec.analysis.indicators):
        raise ConfigurationError(
            "what is slow is not known", where="--package",
            fix="Name the candidate's package: its contract has the latency objective",
        )  # fmt: skip
    selector = spec.analysis.prometheus.selector
    source = PrometheusHttp(address, clock=clock, selector=selector)
    now = clock.now().timestamp()
    try:
        series = source.series(Arms(stable, stable), now - MEASURED_SECONDS)
    finally:
        source.close()
    return traffic_of(series, stable, spec=spec, objective=objective, now=now)


def _shares(items: Sequence[str]) -> Iterator[tuple[str, float]]:
    for item in items:
        name, _, value = item.partition("=")
        try:
            share = float(value)
        except ValueError:
            share = -1.0
        if name not in PLANNED or not 0 <= share < 1:
            raise ConfigurationError(
                f"'{item}' is not INDICATOR=SHARE", where="--events",
                fix=f"Write it as errors=0.002; known: {', '.join(sorted(PLANNED))}",
            )  # fmt: skip
        yield name, share


def lines(made: Plan) -> Iterator[str]:
    """Yield the plan as it stands in a terminal of 80 columns."""
    for sentence in words(made):
        indent = " " * (len(sentence) - len(sentence.lstrip()) + 2)
        yield from textwrap.wrap(sentence, WIDTH, subsequent_indent=indent)
    steps, healthy = made.spec.steps, made.healthy
    if healthy.left:
        yield ""
        yield "Healthy canary, median:"
        for step, left in zip(steps, healthy.left, strict=True):
            yield f"  leaves {step.weight:>3} % after {duration(left):>9}"
    for item in made.indicators:
        yield ""
        yield f"{item.criterion.name}: what becomes of a canary, by its true rate"
        yield (
            f"  {'true rate':>9}  {'':<10} {'rolled back':>11} {'promoted':>9} {'undecided':>10}"
            f"   {'requests':>9} {'time':>10}"
        )
        for chance in item.chances:
            yield from _row(chance)


def _row(chance: Chance) -> Iterator[str]:
    power = chance.power
    said = "tolerable" if chance.tolerable else "too bad"
    requests = "" if power.requests is None else f"{power.requests:,.0f}"
    after = "" if power.seconds is None else duration(power.seconds)
    yield (
        f"  {100 * chance.rate:>7.3g} %  {said:<10} {power.rolled_back:>11.0%} "
        f"{power.promoted:>9.0%} {power.undecided:>10.0%}   {requests:>9} {after:>10}".rstrip()
    )
