"""Before the start: how long a rollout takes, what it can find, and whether its deadline suffices.

Belongs here: the questions, and their answers in words. Not here: the simulation
(`davy.rollout.power`), the picture (`davy.rollout.picture`), where the traffic is measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from davy.core.errors import InvalidInputError, UnavailableError
from davy.rollout.counters import Cursor, read_interval
from davy.rollout.forecast import Forecast, expected
from davy.rollout.power import RUNS, Power, Rates, look_interval, simulate
from davy.rollout.series import Arms, Series
from davy.rollout.spec import RolloutSpec
from davy.rollout.verdict import Criterion, Evidence

# Multiples of the largest tolerable rate at which the canary's chances are computed.
MULTIPLES = (0.1, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
# With neither events nor an allowance there is no largest tolerable rate to start from.
SMALLEST = 0.001
# A deadline is enough when nine of ten healthy canaries are through by it.
ENOUGH = 0.9
# Indicators of which a request is one event or none.
PLANNED = frozenset({"errors", "slow", "rejected", "contract"})


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests a second to both arms, the stable arm's event rates, and where both come from."""

    rate: float
    stable: Mapping[str, float]
    source: str

    def __post_init__(self) -> None:
        """Refuse traffic that nothing can be planned on."""
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise InvalidInputError(
                f"no requests to plan on: {self.rate:g} a second",
                where=self.source,
                fix="Say what is expected: --rate REQUESTS-A-SECOND",
            )
        for name, value in self.stable.items():
            if not 0 <= value < 1:
                raise InvalidInputError(
                    f"{name}: {value:g} is no share of requests", where=self.source
                )


@dataclass(frozen=True, slots=True)
class Chance:
    """What becomes of a canary whose true rate of one indicator is `rate`."""

    rate: float
    tolerable: bool
    power: Power


@dataclass(frozen=True, slots=True)
class IndicatorPlan:
    """One indicator: the first verdict of a healthy canary, and the chances of worse ones."""

    criterion: Criterion
    stable: float
    first: Forecast
    chances: tuple[Chance, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """All answers; ``left_out`` are indicators that no plan is made for."""

    spec: RolloutSpec
    traffic: Traffic
    healthy: Power
    indicators: tuple[IndicatorPlan, ...]
    left_out: tuple[str, ...]

    @property
    def enough(self) -> bool:
        """Whether the deadline suffices for a healthy canary."""
        return self.healthy.promoted >= ENOUGH


def traffic_of(
    series: Sequence[Series], version: str, *, spec: RolloutSpec, objective: float, now: float
) -> Traffic:
    """Return the present traffic and event rates of the version that serves now.

    Parameters
    ----------
    series : sequence of Series
        Its raw counters over some minutes.
    version : str
        The version that serves now.
    spec : RolloutSpec
        Its indicators are counted.
    objective : float
        Latency objective in seconds, for ``slow``.
    now : float
        Unix seconds.

    Raises
    ------
    UnavailableError
        The counters tell no rate: none of this version, or fewer than two samples.
    """
    names = [name for name in spec.counted() if name in PLANNED]
    arms = Arms(version, version)
    stale = spec.stale_after.total_seconds()
    begun = [Series(item.key, item.samples[:1]) for item in series if item.samples]
    oldest = max((item.samples[0].time for item in begun), default=now)
    # The first sample of each series stands for a look that was taken then.
    start = read_interval(
        Cursor(), begun, arms=arms, indicators=names, objective=objective, now=oldest,
        stale_after=max(now - oldest, stale),
    )  # fmt: skip
    reading = start
    if start.missing is None:
        reading = read_interval(
            start.cursor, series, arms=arms, indicators=names, objective=objective, now=now,
            stale_after=stale,
        )  # fmt: skip
    where = f"Prometheus, {version}"
    fix = "Say what is expected instead: --rate, --events"
    if reading.missing is not None:
        raise UnavailableError(reading.missing.message, where=where, fix=fix)
    seconds = (reading.end or 0.0) - (reading.start or 0.0)
    if seconds <= 0:
        raise UnavailableError("fewer than two samples", where=where, fix=fix)
    counts = reading.counts
    requests = max((item.n_stable for item in counts.values()), default=0)
    stable = {name: item.k_stable / item.n_stable for name, item in counts.items() if item.n_stable}
    return Traffic(requests / seconds, stable, f"{version}, its last {duration(seconds)}")


def plan(spec: RolloutSpec, traffic: Traffic, *, runs: int = RUNS, seed: int = 0) -> Plan:
    """Return what is to be expected of a rollout.

    Parameters
    ----------
    spec : RolloutSpec
        With its indicators resolved.
    traffic : Traffic
        An indicator whose stable rate it does not tell is taken to have no events.
    runs, seed : int
        Simulated rollouts for each number, and their seed.

    Raises
    ------
    InvalidInputError
        None of the spec's indicators can be planned for.
    """
    criteria = tuple(item for item in spec.criteria() if item.name in PLANNED)
    left_out = tuple(item.name for item in spec.criteria() if item.name not in PLANNED)
    if not criteria:
        raise InvalidInputError(
            "no indicator that a plan can be made for",
            where="analysis.indicators",
            fix=f"Name one of {', '.join(sorted(PLANNED))}",
        )
    base = {item.name: traffic.stable.get(item.name, 0.0) for item in criteria}
    same = {name: Rates(rate, rate) for name, rate in base.items()}

    def power(rates: Mapping[str, Rates], number: int) -> Power:
        # Each its own seed: a curve of one seed would share its luck.
        return simulate(
            spec, criteria, rates, traffic=traffic.rate, runs=runs, seed=seed * 1000 + number
        )

    share = spec.steps[0].weight / 100
    plans, number = [], 0
    for criterion in criteria:
        stable = base[criterion.name]
        first = expected(
            criterion, Evidence.empty(), stable=stable, canary=stable,
            share=min(spec.compared(spec.steps[0].weight), 0.99), canary_rate=traffic.rate * share,
        )  # fmt: skip
        chances = []
        for rate in _rates(criterion, stable):
            number += 1
            worse = same | {criterion.name: Rates(stable, rate)}
            tolerable = rate <= _edge(criterion, stable)
            chances.append(Chance(rate, tolerable, power(worse, number)))
        plans.append(IndicatorPlan(criterion, stable, first, tuple(chances)))
    return Plan(spec, traffic, power(same, 0), tuple(plans), left_out)


def _edge(criterion: Criterion, stable: float) -> float:
    """Return the largest tolerable rate of the canary."""
    return max(criterion.ratio * stable, criterion.allowance)


def _rates(criterion: Criterion, stable: float) -> list[float]:
    edge = _edge(criterion, stable) or SMALLEST
    # A canary that is better than the stable arm is not what a plan is made for.
    found = {max(edge * times, stable) for times in MULTIPLES}
    return sorted(rate for rate in found if rate < 1)


def words(made: Plan) -> Iterator[str]:
    """Yield the plan as sentences; its tables are the terminal's affair."""
    spec, traffic = made.spec, made.traffic
    deadline = spec.analysis.deadline.total_seconds()
    yield f"Traffic: {traffic.rate:,.4g} requests a second ({traffic.source})"
    if spec.analysis.baseline:
        yield "Compared with a fresh copy of the stable arm that has the canary's share"
    for item in made.indicators:
        yield f"  {item.criterion.name}: stable arm {_percent(item.stable)}; {_limits(item)}"
    if made.left_out:
        yield f"Not in this plan, and must pass as well: {', '.join(made.left_out)}"
    weight = spec.steps[0].weight
    for item in made.indicators:
        yield f"First verdict of {item.criterion.name} at {weight} %: {_first(item)}"
    healthy = made.healthy
    if made.enough:
        late = duration(healthy.late or 0)
        yield (
            f"A healthy canary is promoted after {duration(healthy.promoted_seconds or 0)} "
            f"(nine of ten within {late}) and {healthy.promoted_requests or 0:,.0f} canary "
            f"requests; the deadline of {duration(deadline)} suffices"
        )
    else:
        yield from _too_short(made, deadline)
    yield (
        f"From {healthy.runs} simulated rollouts a number, a look every "
        f"{duration(look_interval(spec))}; a share is then off by up to "
        f"{100 / math.sqrt(healthy.runs):.0f} points"
    )


def _limits(item: IndicatorPlan) -> str:
    wanted = item.criterion
    rate = f" or up to {_percent(wanted.allowance)} of requests" if wanted.allowance else ""
    return f"tolerable up to {wanted.ratio:g} times that{rate}"


def _first(item: IndicatorPlan) -> str:
    if item.first.requests is None or item.first.seconds is None:
        return (
            "none, however long: without events a ratio says nothing, and no allowance is given"
            if not item.stable
            else "none within any time worth waiting for"
        )
    return (
        f"about {item.first.requests:,} canary requests, {duration(item.first.seconds)} "
        f"at this traffic"
    )


def _too_short(made: Plan, deadline: float) -> Iterator[str]:
    healthy, spec = made.healthy, made.spec
    yield (
        f"THE DEADLINE OF {duration(deadline)} IS TOO SHORT: only {healthy.promoted:.0%} of "
        f"healthy canaries would be promoted by it; the others end as {_end(spec)}"
    )
    never = [item.criterion.name for item in made.indicators if item.first.seconds is None]
    if never:
        yield f"  Give {', '.join(never)} an allowance: without one it is never decided"
        return
    slowest = max(made.indicators, key=lambda item: item.first.seconds or 0.0)
    seconds, wanted = slowest.first.seconds or 0.0, slowest.criterion
    weight = spec.steps[0].weight
    yield f"  What takes longest is {wanted.name}: {_first(slowest)}. Any of these helps:"
    yield f"  - a deadline of about {duration(2 * seconds)}"
    if (better := math.ceil(weight * 2 * seconds / deadline)) <= 50:
        yield f"  - a first weight of {better} % (now {weight} %)"
    if wanted.allowance:
        allowance = wanted.allowance * 2 * seconds / deadline
        if allowance < 0.1:
            yield (
                f"  - an allowance of {_percent(float(f'{allowance:.1g}'))} for {wanted.name} "
                f"(now {_percent(wanted.allowance)}), if the service's objective bears it"
            )
    else:
        yield f"  - an allowance for {wanted.name}: its stable rate alone decides slowly"


def _end(spec: RolloutSpec) -> str:
    return "rolled back" if spec.on_inconclusive == "Rollback" else "inconclusive"


def duration(seconds: float) -> str:
    """Return a time as people say it: 40 s, 12 min, 9.5 h, 3 days."""
    for size, unit in ((2 * 86400, "days"), (2 * 3600, "h"), (180, "min")):
        if seconds >= size:
            value = seconds / {"days": 86400, "h": 3600, "min": 60}[unit]
            return f"{value:.3g} {unit}"
    return f"{seconds:.3g} s"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
