"""What each indicator counts, from how much each counter rose in an interval.

Belongs here: events and requests of the indicators, their segments and parts, per arm and pod.
Not here: how much a counter rose (`davy.rollout.counters`), what counts mean
(`davy.rollout.verdict`).

| indicator | event | of |
|---|---|---|
| errors | outcome server_error, timeout or shed | all requests but client errors |
| slow | slower than the objective, a bucket bound | requests in the latency histogram |
| rejected | outcome client_error | all requests |
| contract | answer whose outputs break the contract | requests that were answered |
| outliers | row that the arm's own detector flags | rows that were scored |
| outcome | label that came and says wrong | labels that came |
| parity | replayed request that is answered otherwise | requests replayed |
| shift | score in a bucket, for each; and with the arms swapped | rows that were scored |
| shadow-errors | request of the shadow step that failed | requests sent and taken |
| shadow-slow | answer later than the objective | requests answered |
| shadow-differences | answer further from the served one than the tolerance | requests answered |

A client error is the client's: it is neither an event nor a request of ``errors``, so a client
that sends rubbish cannot dilute the error rate. A canary that rejects what the stable accepts shows
under ``rejected``.

``name[label=value]`` is an indicator within one segment: only series with that label count.
``shift[bucket+]`` asks whether the canary gives a bucket more often than tolerable, and
``shift[bucket-]`` whether the stable arm does: a multinomial is that many binomials, and Bonferroni
over them asks nothing of how they hang together. Where rows come many to a request they are not
independent, and ``outliers`` and ``shift`` claim more than they know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isclose
from typing import NamedTuple

from davy.rollout.pods import PodCounts
from davy.rollout.series import (
    OTHERS,
    OUTCOMES,
    OUTLIERS,
    OUTPUT_VIOLATIONS,
    PARITY,
    PREDICTIONS,
    REQUESTS,
    SECONDS_BUCKET,
    SECONDS_COUNT,
    SHADOW_DIFFERENT,
    SHADOW_REQUESTS,
    SHADOW_SLOW,
    Arms,
    SeriesKey,
    segment_text,
)
from davy.rollout.verdict import Counts

FAILURES = frozenset({"server_error", "timeout", "shed"})
# Failures that a node alone can cause.
NODE_FAILURES = frozenset({"timeout", "shed"})
CLIENT_ERROR = "client_error"

SHIFT = "shift"
SHADOW_ERRORS, SHADOW_SLOWNESS = "shadow-errors", "shadow-slow"
SHADOW_DIFFERENCES = "shadow-differences"
# Counted in requests of an arm, so that they tell how many it had.
BY_REQUEST = frozenset({"errors", "slow", "rejected", "contract"})
# Counted by the arm's pods themselves.
BY_POD = BY_REQUEST | {"outliers"}
# Slow answers are what a slow node gives, whatever the model.
NODE_LIKE = frozenset({"slow"})

# How much each counter rose.
Rises = Sequence[tuple[SeriesKey, int]]


class ArmCounts(NamedTuple):
    """Requests, events, and those of them that a node alone can cause."""

    n: int
    k: int
    node: int = 0


@dataclass(frozen=True, slots=True)
class Definition:
    """Which metrics an indicator needs, and how it counts; ``strict`` where none means unknown.

    ``own`` is counted of the canary alone: it is compared with nobody.
    """

    metrics: tuple[str, ...]
    count: Callable[[Rises], ArmCounts]
    strict: bool = True
    own: bool = False


def _errors(rises: Rises) -> ArmCounts:
    outcomes = [(key.detail, value) for key, value in rises if key.metric == REQUESTS]
    return ArmCounts(
        sum(value for outcome, value in outcomes if outcome != CLIENT_ERROR),
        sum(value for outcome, value in outcomes if outcome in FAILURES),
        sum(value for outcome, value in outcomes if outcome in NODE_FAILURES),
    )


def _rejected(rises: Rises) -> ArmCounts:
    return ArmCounts(_sum(rises, REQUESTS), _sum(rises, REQUESTS, CLIENT_ERROR))


def _slow(rises: Rises) -> ArmCounts:
    requests = _sum(rises, SECONDS_COUNT)
    fast = _sum(rises, SECONDS_BUCKET)  # of the one bucket that ends at the objective
    # A scrape may fall between the two updates of one request.
    return ArmCounts(requests, min(max(requests - fast, 0), requests))


def _contract(rises: Rises) -> ArmCounts:
    answered = _sum(rises, REQUESTS, "ok")
    return ArmCounts(answered, min(_sum(rises, OUTPUT_VIOLATIONS), answered))


def _outliers(rises: Rises) -> ArmCounts:
    rows = _sum(rises, PREDICTIONS)
    return ArmCounts(rows, min(_sum(rises, OUTLIERS), rows))


def _outcome(rises: Rises) -> ArmCounts:
    wrong = _sum(rises, OUTCOMES, "wrong")
    return ArmCounts(_sum(rises, OUTCOMES, "right") + wrong, wrong)


def _parity(rises: Rises) -> ArmCounts:
    different = _sum(rises, PARITY, "different")
    return ArmCounts(_sum(rises, PARITY, "same") + different, different)


def _shadow_errors(rises: Rises) -> ArmCounts:
    failed = _sum(rises, SHADOW_REQUESTS, "failed")
    return ArmCounts(_sum(rises, SHADOW_REQUESTS, "answered") + failed, failed)


def _shadow_slow(rises: Rises) -> ArmCounts:
    answered = _sum(rises, SHADOW_REQUESTS, "answered")
    return ArmCounts(answered, min(_sum(rises, SHADOW_SLOW), answered))


def _shadow_differences(rises: Rises) -> ArmCounts:
    # Of the series of one tolerance: the engine hands over no other.
    answered = _sum(rises, SHADOW_REQUESTS, "answered")
    return ArmCounts(answered, min(_sum(rises, SHADOW_DIFFERENT), answered))


def _rows(rises: Rises) -> ArmCounts:
    return ArmCounts(_sum(rises, PREDICTIONS), 0)


def _sum(rises: Rises, metric: str, detail: str | None = None) -> int:
    return sum(
        value
        for key, value in rises
        if key.metric == metric and (detail is None or key.detail == detail)
    )


DEFINITIONS: Mapping[str, Definition] = {
    "errors": Definition((REQUESTS,), _errors, strict=False),
    "slow": Definition((SECONDS_COUNT, SECONDS_BUCKET), _slow, strict=False),
    "rejected": Definition((REQUESTS,), _rejected, strict=False),
    "contract": Definition((REQUESTS, OUTPUT_VIOLATIONS), _contract),
    "outliers": Definition((PREDICTIONS, OUTLIERS), _outliers),
    "outcome": Definition((OUTCOMES,), _outcome),
    "parity": Definition((PARITY,), _parity),
    SHIFT: Definition((PREDICTIONS,), _rows),
    # Not for a spec to name: they belong to its shadow step (`davy.rollout.shadow`).
    SHADOW_ERRORS: Definition((SHADOW_REQUESTS,), _shadow_errors, own=True),
    SHADOW_SLOWNESS: Definition((SHADOW_REQUESTS, SHADOW_SLOW), _shadow_slow, own=True),
    SHADOW_DIFFERENCES: Definition(
        (SHADOW_REQUESTS, SHADOW_DIFFERENT), _shadow_differences, own=True
    ),
}


@dataclass(frozen=True, slots=True)
class Counted:
    """Counts of each indicator (and part), the canary's by pod, and why some could not be had."""

    counts: Mapping[str, Counts] = field(default_factory=dict)
    pods: Mapping[str, tuple[PodCounts, ...]] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)


def count_all(
    names: Sequence[str], rises: Mapping[SeriesKey, int], *, arms: Arms, objective: float
) -> Counted:
    """Count what the indicators ask for.

    Parameters
    ----------
    names : sequence of str
        Of indicators, with a segment where they are split.
    rises : mapping
        How much each series that is there rose in the interval.
    arms : Arms
        Versions of the arms. Where there is a baseline the canary is compared with it; what others
        count (``outcome``, ``parity``) knows the version alone, and is compared with all of it.
    objective : float
        Latency objective, in seconds.
    """
    counts: dict[str, Counts] = {}
    pods: dict[str, tuple[PodCounts, ...]] = {}
    absent: dict[str, str] = {}
    usable = [
        (key, rise)
        for key, rise in rises.items()
        if key.metric != SECONDS_BUCKET or is_bound(key.detail, objective)
    ]
    for name in names:
        base, segment = split_name(name)
        definition = DEFINITIONS[base]
        reference = arms.stable if OTHERS.issuperset(definition.metrics) else arms.reference
        of = {
            version: [item for item in usable if item[0].version == version]
            for version in (reference, arms.canary)
        }
        if definition.own:
            of[reference] = []
        why = _absence(
            definition, segment, {arms.canary: of[arms.canary]} if definition.own else of
        )
        if why:
            absent[name] = why
            continue
        if segment:
            of = {
                version: [item for item in own if segment in item[0].segment.split(";")]
                for version, own in of.items()
            }
        stable, canary = of[reference], of[arms.canary]
        if base == SHIFT:
            parts = _shift_parts(name, stable, canary)
            if not parts:
                absent[name] = "the score buckets of the two arms differ"
            counts.update(parts)
            continue
        counts[name] = _pair(definition.count(stable), definition.count(canary))
        if base in BY_POD:
            pods[name] = _by_pod(definition, canary)
    return Counted(counts, pods, absent)


def split_name(name: str) -> tuple[str, str]:
    """Return the indicator and its segment, or part; empty for the whole."""
    base, _, rest = name.partition("[")
    return base, rest.removesuffix("]")


def segment_name(name: str, label: str, value: str) -> str:
    """Return the name of an indicator within one segment."""
    return f"{name}[{segment_text({label: value})}]"


def is_bound(text: str, objective: float) -> bool:
    """Return whether a bucket ends at the objective."""
    return isclose(float(text), objective, rel_tol=1e-9)


def _absence(definition: Definition, segment: str, of: Mapping[str, Rises]) -> str:
    label = segment.partition("=")[0]
    for version, own in of.items():
        metrics = {key.metric for key, _ in own}
        missing = [metric for metric in definition.metrics if metric not in metrics]
        if missing and definition.strict:
            return f"{version} has no series {', '.join(missing)}"
        labelled = any(
            key.metric in definition.metrics and f"{label}=" in f"{key.segment}" for key, _ in own
        )
        if segment and own and not labelled:
            return f"no series of {version} carries the label {label}"
    return ""


def _shift_parts(name: str, stable: Rises, canary: Rises) -> dict[str, Counts]:
    buckets = [
        {key.detail for key, _ in own if key.metric == PREDICTIONS} for own in (stable, canary)
    ]
    if buckets[0] != buckets[1]:
        return {}
    parts: dict[str, Counts] = {}
    n_s, n_c = _sum(stable, PREDICTIONS), _sum(canary, PREDICTIONS)
    for bucket in sorted(buckets[0]):
        k_s, k_c = _sum(stable, PREDICTIONS, bucket), _sum(canary, PREDICTIONS, bucket)
        parts[f"{name}[{bucket}+]"] = Counts(n_s, k_s, n_c, k_c)
        parts[f"{name}[{bucket}-]"] = Counts(n_c, k_c, n_s, k_s)
    return parts


def _pair(stable: ArmCounts, canary: ArmCounts) -> Counts:
    return Counts(stable.n, stable.k, canary.n, canary.k, stable.node, canary.node)


def _by_pod(definition: Definition, canary: Rises) -> tuple[PodCounts, ...]:
    found = []
    for pod in sorted({key.pod for key, _ in canary}):
        own = definition.count([item for item in canary if item[0].pod == pod])
        if own.n:
            found.append(PodCounts(pod, own.n, own.k))
    return tuple(found)
