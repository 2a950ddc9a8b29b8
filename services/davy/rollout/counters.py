"""From raw cumulative counters to the counts of one interval; or the reason why there are none.

Belongs here: baselines, resets, missing scrapes, staleness, clock skew.
Not here: how samples are fetched (adapters), what the indicators count
(`davy.rollout.indicators`), what counts mean (`davy.rollout.verdict`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field

from davy.rollout.indicators import (
    DEFINITIONS,
    Counted,
    count_all,
    is_bound,
    split_name,
)
from davy.rollout.pods import PodCounts
from davy.rollout.series import (
    COUNTERS,
    OTHERS,
    OWN,
    SECONDS_BUCKET,
    UP,
    Arms,
    Sample,
    Series,
    SeriesKey,
)
from davy.rollout.verdict import Counts

# Reasons why a look has no counts.
NO_METRICS = "NoMetrics"
METRICS_STALE = "MetricsStale"
CLOCK_SKEW = "ClockSkew"
SCRAPE_FAILED = "ScrapeFailed"
NO_OBJECTIVE_BUCKET = "NoObjectiveBucket"
METRICS_UNAVAILABLE = "MetricsUnavailable"


# A float counts whole numbers up to here.
MOST = 2.0**53

# For each pod, the times at which it was found to have begun anew.
Resets = Mapping[str, Set[float]]


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

    ``start`` and ``end`` are Unix seconds of the samples between which was counted, ``first`` those
    of the earliest that the look before did not see, all by the clock of whoever scraped them;
    ``pods`` are the canary's counts by pod, ``absent`` says why an indicator has no counts while
    others have.
    """

    cursor: Cursor
    counts: Mapping[str, Counts] = field(default_factory=dict)
    missing: Missing | None = None
    start: float | None = None
    end: float | None = None
    pods: Mapping[str, tuple[PodCounts, ...]] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    first: float | None = None


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
        Versions of the arms; the canary is compared with the baseline where there is one.
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
    wanted = OWN.union(*(DEFINITIONS[split_name(name)[0]].metrics for name in indicators))
    counted = [
        item
        for item in usable
        if item.key.metric in wanted
        and _is_compared(item.key, arms)
        and _is_used(item.key, objective)
    ]
    first_look = not cursor.last
    resets = _reset_times(cursor, counted)
    rises = {s.key: 0 if first_look else _increment(cursor, s, counted, resets) for s in counted}
    # What has not been scraped for long says nothing any more, and 0 would be a claim.
    fresh = {s.key for s in counted if now - s.samples[-1].time <= stale_after}
    found = count_all(
        indicators,
        {key: rise for key, rise in rises.items() if key in fresh or rise},
        arms=arms,
        objective=objective,
    )
    if first_look:
        found = Counted(found.counts, {}, found.absent)
    kept = Cursor({key: at for key, at in cursor.last.items() if _is_used(key, objective)})
    moved = _moved(kept, counted, resets, oldest=now - 10 * stale_after)
    start = moved.newest if first_look else _start(cursor, counted)
    return Reading(
        moved,
        found.counts,
        None,
        start,
        moved.newest,
        found.pods,
        found.absent,
        _first(cursor, counted),
    )


def _is_compared(key: SeriesKey, arms: Arms) -> bool:
    # What others count of the stable version is not told apart by which of its servers answered.
    shared = key.metric in OTHERS and key.version == arms.stable
    return shared or key.version in (arms.reference, arms.canary)


def _is_used(key: SeriesKey, objective: float) -> bool:
    # Every look writes the cursor down: of a histogram one bucket is enough.
    return key.metric != SECONDS_BUCKET or is_bound(key.detail, objective)


def _finite(series: Iterable[Series]) -> list[Series]:
    # A NaN is how a scraped counter says that it has gone; what no counter can say is dropped.
    kept = (
        Series(
            item.key,
            tuple(sorted(s for s in item.samples if math.isfinite(s.time) and 0 <= s.value < MOST)),
        )
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
    reference = "baseline" if arms.baseline else "stable"
    for arm, version in (("canary", arms.canary), (reference, arms.reference)):
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
    # What a detector counts of the version is no sign of life, nor is it missed as one.
    seen = (
        (key, sample)
        for key, sample in cursor.last.items()
        if key.version == version and key.metric in OWN
    )
    for key, sample in (*seen, *((item.key, item.samples[-1]) for item in own)):
        newest[key.pod] = max(newest.get(key.pod, sample.time), sample.time)
    return newest


def _missing_bucket(
    series: Sequence[Series], arms: Arms, indicators: Sequence[str], objective: float
) -> Missing | None:
    if not any(split_name(name)[0] == "slow" for name in indicators):
        return None
    for version in (arms.canary, arms.reference):
        bounds = {
            item.key.detail
            for item in series
            if item.key.metric == SECONDS_BUCKET and item.key.version == version
        }
        if bounds and not any(is_bound(text, objective) for text in bounds):
            listed = ", ".join(sorted(bounds, key=float))
            return Missing(
                NO_OBJECTIVE_BUCKET,
                f"{version}: no bucket ends at the objective of {objective:g} s, only at {listed}",
            )
    return None


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


def _first(cursor: Cursor, series: Sequence[Series]) -> float | None:
    """Return the earliest time of a sample that is newer than all that was seen before."""
    seen = cursor.newest
    if seen is None:
        return None
    new = (sample.time for item in series for sample in item.samples if sample.time > seen)
    return min(new, default=None)


def _start(cursor: Cursor, series: Sequence[Series]) -> float | None:
    """Return from when on the interval counts: the oldest end of what was counted before."""
    ends: dict[str, float] = {}
    pods = {item.key.pod for item in series}
    for key, sample in cursor.last.items():
        if key.pod in pods and key.metric in OWN:
            ends[key.pod] = max(ends.get(key.pod, sample.time), sample.time)
    return min(ends.values(), default=None)
