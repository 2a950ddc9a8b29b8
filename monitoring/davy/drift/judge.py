"""From distances to a verdict: effect floor, rank among past weeks, many features, persistence.

Belongs here: every decision about drift, as pure functions. Not here: measuring.

Three things must hold before a feature of one window counts as drifted, and a fourth before
anybody is told:

1. its effect is at least the floor, so that a large sample alone never alarms;
2. its rank among the distances of past windows is rare: p = (k + 1) / (n + 1), with k of the n
   at least as large (Phipson and Smyth 2010: never 0);
3. it stays so after Benjamini and Hochberg (1995) over all tests of the window;
4. it holds over `Rules.consecutive` windows in a row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from davy.core.errors import ConfigurationError
from davy.drift.distance import DetectorName, Values
from davy.drift.result import Distance, DriftResult, FeatureDrift, Status

TestKey = tuple[str, DetectorName]
"""Feature and detector."""

# Packages hold distances to five decimals, engines round in single precision: near is a tie.
TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class Null:
    """Distances of past windows (ascending) and the smallest effect that matters."""

    distances: Values
    floor: float


@dataclass(frozen=True, slots=True)
class Rules:
    """When a window counts, and when it alarms.

    Parameters
    ----------
    window_rows : int
        Rows of the windows that the nulls were drawn with.
    minimum_share : float
        A window with fewer than this share of `window_rows` is "insufficient": its noise is
        larger than that of the windows that it would be ranked among.
    minimum_values : int
        A feature with fewer present values than this is "insufficient".
    false_discovery_rate : float
        Benjamini-Hochberg's bound over the tests of one window.
    consecutive : int
        Windows in a row that must drift before a feature becomes active, and that must be quiet
        before it stops being so.
    """

    window_rows: int
    minimum_share: float = 0.9
    minimum_values: int = 30
    false_discovery_rate: float = 0.05
    consecutive: int = 2

    def __post_init__(self) -> None:
        if self.window_rows < 1 or self.minimum_values < 1 or self.consecutive < 1:
            raise ConfigurationError(
                "window_rows, minimum_values and consecutive must be at least 1",
                where="drift rules",
            )
        if not (0 < self.minimum_share <= 1 and 0 < self.false_discovery_rate < 1):
            raise ConfigurationError(
                "minimum_share must be in (0, 1] and false_discovery_rate in (0, 1)",
                where="drift rules",
            )


def rank_p_value(effect: float, null: Values) -> float:
    """Share of past distances at least as large, with the window itself counted among them.

    Examples
    --------
    >>> rank_p_value(0.3, np.array([0.1, 0.2, 0.3, 0.4]))
    0.6
    """
    larger = null.size - int(np.searchsorted(null, effect - TOLERANCE, side="left"))
    return (larger + 1) / (null.size + 1)


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values: reject those at most q, and the false discovery rate is at most q.

    Examples
    --------
    >>> [round(p, 3) for p in benjamini_hochberg([0.01, 0.5, 0.02, 0.2])]
    [0.04, 0.5, 0.04, 0.267]
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [1.0] * len(p_values)
    smallest = 1.0
    for rank in range(len(order), 0, -1):
        index = order[rank - 1]
        smallest = min(smallest, p_values[index] * len(order) / rank)
        adjusted[index] = smallest
    return adjusted


def judge(
    distances: Sequence[Distance], nulls: Mapping[TestKey, Null], rules: Rules, *, rows: int
) -> DriftResult:
    """Return the verdict on one window of `rows` rows.

    A distance for which there is no null is "insufficient": nothing says what is usual.
    """
    needed = math.ceil(rules.minimum_share * rules.window_rows)
    if rows < needed:
        reason = f"{rows} rows, and {needed} are needed"
        features = tuple(_insufficient(item, nulls, reason) for item in distances)
        return DriftResult(rows, "insufficient", features, reason)
    verdicts: list[FeatureDrift] = []
    tested: list[tuple[int, float]] = []
    for item in distances:
        null = nulls.get((item.feature, item.detector))
        if null is None or null.distances.size == 0:
            verdicts.append(_insufficient(item, nulls, "the package holds no past distances"))
        elif item.values < rules.minimum_values:
            reason = f"{item.values} values, and {rules.minimum_values} are needed"
            verdicts.append(_insufficient(item, nulls, reason))
        else:
            tested.append((len(verdicts), rank_p_value(item.effect, null.distances)))
            verdicts.append(_insufficient(item, nulls, ""))
    adjusted = benjamini_hochberg([p_value for _, p_value in tested])
    for (index, p_value), bound in zip(tested, adjusted, strict=True):
        verdict = verdicts[index]
        rare = bound <= rules.false_discovery_rate
        status: Status = "drift" if rare and verdict.effect >= verdict.floor - TOLERANCE else "ok"
        verdicts[index] = replace(verdict, status=status, p_value=p_value, adjusted=bound)
    return DriftResult(rows, _worst(verdicts), tuple(verdicts))


def _insufficient(item: Distance, nulls: Mapping[TestKey, Null], reason: str) -> FeatureDrift:
    null = nulls.get((item.feature, item.detector))
    return FeatureDrift(
        feature=item.feature,
        detector=item.detector,
        status="insufficient",
        effect=item.effect,
        floor=null.floor if null else math.nan,
        p_value=math.nan,
        adjusted=math.nan,
        statistic=item.statistic,
        reason=reason,
    )


def _worst(verdicts: Sequence[FeatureDrift]) -> Status:
    statuses = {item.status for item in verdicts}
    if "drift" in statuses:
        return "drift"
    return "ok" if "ok" in statuses else "insufficient"


def too_coarse(nulls: Mapping[TestKey, Null], rules: Rules) -> list[TestKey]:
    """Tests that could never alarm alone: their smallest p-value is above rate / tests."""
    bound = rules.false_discovery_rate / max(len(nulls), 1)
    return [key for key, null in nulls.items() if 1 / (null.distances.size + 1) > bound]


@dataclass(frozen=True, slots=True)
class Streak:
    """How a feature did over the last windows."""

    drifted: int = 0
    quiet: int = 0
    active: bool = False


Streaks = Mapping[TestKey, Streak]


def persist(streaks: Streaks, result: DriftResult, rules: Rules) -> Streaks:
    """Return the streaks after one more window; an insufficient verdict changes nothing."""
    after = dict(streaks)
    for item in result.features:
        before = after.get((item.feature, item.detector), Streak())
        if item.status == "drift":
            drifted = before.drifted + 1
            streak = Streak(drifted, 0, before.active or drifted >= rules.consecutive)
        elif item.status == "ok":
            quiet = before.quiet + 1
            streak = Streak(0, quiet, before.active and quiet < rules.consecutive)
        else:
            streak = before
        after[item.feature, item.detector] = streak
    return after
