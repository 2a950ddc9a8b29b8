"""From raw cumulative counters to the counts of one interval; or the reason why there are none.

Belongs here: baselines, resets, missing scrapes, staleness, clock skew, what each indicator counts.
Not here: how samples are fetched (adapters), what counts mean (`davy.rollout.verdict`).

What the indicators count, per interval and arm, summed over pods:

| indicator | event | of |
|---|---|---|
| errors | outcome server_error, timeout or shed | all requests but client errors |
| slow | slower than the objective, a bucket bound | requests in the latency histogram |
| rejected | outcome client_error | all requests |

A client error is the client's: it is neither an event nor a request of ``errors``, so a client
that sends rubbish cannot dilute the error rate. A canary that rejects what the stable accepts shows
under ``rejected``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import NamedTuple

from davy.rollout.verdict import Counts

REQUESTS = "davy_requests_total"
SECONDS_COUNT = "davy_request_seconds_count"
SECONDS_BUCKET = "davy_request_seconds_bucket"
MODEL_INFO = "davy_model_info"
DRIFT = "davy_drift_active"
UP = "up"
COUNTERS = frozenset({REQUESTS, SECONDS_COUNT, SECONDS_BUCKET})
# What an arm says of itself; the detector's series carry its version, too, and prove no life of it.
OWN = COUNTERS | {MODEL_INFO}

FAILURES = frozenset({"server_error", "timeout", "shed"})
CLIENT_ERROR = "client_error"

# Reasons why a look has no counts.
NO_METRICS = "NoMetrics"
METRICS_STALE = "MetricsStale"
CLOCK_SKEW = "ClockSkew"
SCRAPE_FAILED = "ScrapeFailed"
NO_OBJECTIVE_BUCKET = "NoObjectiveBucket"
METRICS_UNAVAILABLE = "MetricsUnavailable"


# For each pod, the times at which it was found to have begun anew.
Resets = Mapping[str, Set[float]]


class SeriesKey(NamedTuple):
    """One time series: ``detail`` is the outcome, the bucket's bound or the drifting feature."""

    metric: str
    version: str
    pod: str
    detail: str = ""


class Sample(NamedTuple):
    """A raw sample: Unix seconds and the cumulative value."""

    time: float
    value: float


@dataclass(frozen=True, slots=True)
class Series:
    """The raw samples of one series in a stretch of time, oldest first."""

    key: SeriesKey
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Arms:
    """The two versions that are compared."""

    stable: str
    canary: str


@dataclass(frozen=True, slots=True)
class Cursor:
    """Up to where counters have been counted: the last sample of each series."""

    last: Mapping[SeriesKey, Sample] = field(default_factory=dict)

    @property
    def newest(self) -> float | None:
        """Return the time of the newest sample, in Unix seconds."""
        return max((sample.time for sample in self.last.values()), default=None)

    def pods(self) -> frozenset[str]:
        """Return the pods that have been seen."""
        return frozenset(key.pod for key in self.last)


@dataclass(frozen=True, slots=True)
class Missing:
    """Why a look has no counts: a constant of this module, and the same in words."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Reading:
    """The counts of one interval, or why there are none; then the cursor has not moved.

    ``start`` and ``end`` are Unix seconds of the samples between which was counted.
    """

    cursor: Cursor
    counts: Mapping[str, Counts] = field(default_factory=dict)
    missing: Missing | None = None
    start: float | None = None
    end: float | None = None


def read_interval(
    cursor: Cursor,
    series: Iterable[Series],
    *,
    arms: Arms,
    indicators: Sequence[str],
    objective: float,
    now: float,
    stale_after: float,
) -> Reading:
    """Count what happened since the cursor.

    Parameters
    ----------
    cursor : Cursor
        Where the last interval ended; an empty one makes this look the baseline, with zero counts.
    series : iterable of Series
        Raw samples of both arms, of ``up`` and of ``davy_model_info``, from the cursor on or from
        earlier: samples at or before the cursor are ignored.
    arms : Arms
        Versions of both arms.
    indicators : sequence of str
        Names to count.
    objective : float
        Latency objective, in seconds: must be a bound of the histogram.
    now : float
        Unix seconds of this look.
    stale_after : float
        Seconds after which the newest sample of an arm is no evidence any more.
    """
    usable = _finite(series)
    missing = _missing(cursor, usable, arms, now=now, stale_after=stale_after) or _missing_bucket(
        usable, arms, indicators, objective
    )
    if missing is not None:
        return Reading(cursor, missing=missing)
    versions = {arms.stable, arms.canary}
    counted = [i for i in usable if i.key.metric in OWN and i.key.version in versions]
    first_look = not cursor.last
    resets = _reset_times(cursor, counted)
    increments = (
        {} if first_look else {s.key: _increment(cursor, s, counted, resets) for s in counted}
    )
    counts = {
        name: _counts(name, increments, arms=arms, objective=objective) for name in indicators
    }
    moved = _moved(cursor, counted, resets, oldest=now - 10 * stale_after)
    start = moved.newest if first_look else _start(cursor, counted)
    return Reading(moved, counts, None, start, moved.newest)


def _finite(series: Iterable[Series]) -> list[Series]:
    # A NaN is how a scraped counter says that it has gone.
    kept = (
        Series(item.key, tuple(s for s in item.samples if math.isfinite(s.value)))
        for item in series
    )
    return [item for item in kept if item.samples]


def _missing(
    cursor: Cursor, series: Sequence[Series], arms: Arms, *, now: float, stale_after: float
) -> Missing | None:
    # A target that Prometheus no longer asks has left: neither down nor silent.
    up = {
        item.key.pod: item.samples[-1].value
        for item in series
        if item.key.metric == UP and now - item.samples[-1].time <= stale_after
    }
    for arm, version in (("canary", arms.canary), ("stable", arms.stable)):
        own = [i for i in series if i.key.metric in OWN and i.key.version == version]
        newest = _newest(cursor, own, version)
        failing = sorted(pod for pod in newest if up.get(pod) == 0)
        if failing:
            return Missing(
                SCRAPE_FAILED, f"{arm} {version}: {', '.join(failing)} cannot be scraped"
            )
        if not own:
            return Missing(NO_METRICS, f"{arm} {version}: no series of it")
        # The freshest pod speaks for the arm, but not for a pod that is up and has gone silent.
        silent = {pod: time for pod, time in newest.items() if pod in up}
        oldest = min((max(newest.values()), *silent.values()))
        if now - oldest > stale_after:
            pods = sorted(pod for pod, time in newest.items() if time == oldest)
            return Missing(
                METRICS_STALE,
                f"{arm} {version}: newest sample of {', '.join(pods)} is {now - oldest:.1f} s old, "
                f"more than {stale_after:g} s",
            )
        ahead = max(newest.values()) - now
        if ahead > stale_after:
            return Missing(
                CLOCK_SKEW,
                f"{arm} {version}: newest sample is {ahead:.1f} s ahead of this clock",
            )
    return None


def _newest(cursor: Cursor, own: Iterable[Series], version: str) -> dict[str, float]:
    """Return for each pod of a version the time of its newest sample."""
    newest: dict[str, float] = {}
    seen = ((key, sample) for key, sample in cursor.last.items() if key.version == version)
    for key, sample in (*seen, *((item.key, item.samples[-1]) for item in own)):
        newest[key.pod] = max(newest.get(key.pod, sample.time), sample.time)
    return newest


def _missing_bucket(
    series: Sequence[Series], arms: Arms, indicators: Sequence[str], objective: float
) -> Missing | None:
    if "slow" not in indicators:
        return None
    for version in (arms.canary, arms.stable):
        bounds = {
            item.key.detail
            for item in series
            if item.key.metric == SECONDS_BUCKET and item.key.version == version
        }
        if bounds and not any(_is_bound(text, objective) for text in bounds):
            listed = ", ".join(sorted(bounds, key=float))
            return Missing(
                NO_OBJECTIVE_BUCKET,
                f"{version}: no bucket ends at the objective of {objective:g} s, only at {listed}",
            )
    return None


def _is_bound(text: str, objective: float) -> bool:
    return math.isclose(float(text), objective, rel_tol=1e-9)


def _reset_times(cursor: Cursor, series: Sequence[Series]) -> Resets:
    """Return for each pod the times at which one of its counters fell."""
    resets: dict[str, set[float]] = {}
    for item in series:
        if item.key.metric not in COUNTERS:
            continue
        previous = cursor.last.get(item.key)
        for sample in item.samples:
            if previous is not None and sample.time <= previous.time:
                continue
            if previous is not None and sample.value < previous.value:
                resets.setdefault(item.key.pod, set()).add(sample.time)
            previous = sample
    return resets


def _increment(cursor: Cursor, item: Series, series: Sequence[Series], resets: Resets) -> int:
    pod = item.key.pod
    previous = cursor.last.get(item.key)
    if previous is None:
        # On a pod that was scraped before, a counter that is new began at 0 (a labelled counter
        # appears with its first event). The first scrape of a new pod is only a baseline: what it
        # counted before is not of this interval.
        if pod in cursor.pods():
            previous = Sample(-math.inf, 0.0)
        else:
            first = min(other.samples[0].time for other in series if other.key.pod == pod)
            start = item.samples[0]
            previous = start if start.time == first else Sample(first, 0.0)
    total = 0.0
    for sample in item.samples:
        if sample.time <= previous.time:
            continue
        # One process, one reset: a counter that came back above its old value began anew as well.
        restarted = any(previous.time < time <= sample.time for time in resets.get(pod, ()))
        fell = restarted or sample.value < previous.value
        total += sample.value if fell else sample.value - previous.value
        previous = sample
    return round(total)


def _counts(
    name: str, increments: Mapping[SeriesKey, int], *, arms: Arms, objective: float
) -> Counts:
    stable = _arm_counts(name, increments, arms.stable, objective)
    canary = _arm_counts(name, increments, arms.canary, objective)
    return Counts(stable[0], stable[1], canary[0], canary[1])


def _arm_counts(
    name: str, increments: Mapping[SeriesKey, int], version: str, objective: float
) -> tuple[int, int]:
    own = [(key, value) for key, value in increments.items() if key.version == version]
    outcomes = [(key.detail, value) for key, value in own if key.metric == REQUESTS]
    if name == "errors":
        requests = sum(value for outcome, value in outcomes if outcome != CLIENT_ERROR)
        return requests, sum(value for outcome, value in outcomes if outcome in FAILURES)
    if name == "rejected":
        requests = sum(value for _, value in outcomes)
        return requests, sum(value for outcome, value in outcomes if outcome == CLIENT_ERROR)
    requests = sum(value for key, value in own if key.metric == SECONDS_COUNT)
    fast = sum(
        value
        for key, value in own
        if key.metric == SECONDS_BUCKET and _is_bound(key.detail, objective)
    )
    # A scrape may fall between the two updates of one request.
    return requests, min(max(requests - fast, 0), requests)


def _moved(cursor: Cursor, series: Sequence[Series], resets: Resets, *, oldest: float) -> Cursor:
    last = dict(cursor.last)
    for item in series:
        sample = item.samples[-1]
        if item.key not in last or sample.time > last[item.key].time:
            last[item.key] = sample
    for key, sample in last.items():
        latest = max(resets.get(key.pod, ()), default=-math.inf)
        if sample.time < latest:
            last[key] = Sample(latest, 0.0)
    # A pod that has long gone is forgotten, else the cursor grows with every replacement.
    alive = {key.pod for key, sample in last.items() if sample.time >= oldest}
    return Cursor({key: sample for key, sample in last.items() if key.pod in alive})


def _start(cursor: Cursor, series: Sequence[Series]) -> float | None:
    """Return from when on the interval counts: the oldest end of what was counted before."""
    ends: dict[str, float] = {}
    pods = {item.key.pod for item in series}
    for key, sample in cursor.last.items():
        if key.pod in pods:
            ends[key.pod] = max(ends.get(key.pod, sample.time), sample.time)
    return min(ends.values(), default=None)
