"""Raw counters as the gate knows them: names of metrics, series, samples.

Belongs here: the vocabulary that adapters and counting share. Not here: either of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote

# The predictor's.
REQUESTS = "davy_requests_total"
SECONDS_COUNT = "davy_request_seconds_count"
SECONDS_BUCKET = "davy_request_seconds_bucket"
MODEL_INFO = "davy_model_info"
PREDICTIONS = "davy_predictions_total"
OUTLIERS = "davy_outliers_total"
OUTPUT_VIOLATIONS = "davy_output_violations_total"
# Of whoever joins labels, replays requests or watches inputs; they carry the arm's version, too.
OUTCOMES = "davy_outcomes_total"
PARITY = "davy_parity_checks_total"
DRIFT = "davy_drift_active"
# Of whoever sends real requests to a canary that serves nobody.
SHADOW_REQUESTS = "davy_shadow_requests_total"
SHADOW_SLOW = "davy_shadow_slow_total"
SHADOW_DIFFERENT = "davy_shadow_different_total"
UP = "up"

# What an arm says of itself: only that proves that it lives.
OWN = frozenset({REQUESTS, SECONDS_COUNT, SECONDS_BUCKET, MODEL_INFO})
PREDICTOR = OWN | {PREDICTIONS, OUTLIERS, OUTPUT_VIOLATIONS}
SHADOW = frozenset({SHADOW_REQUESTS, SHADOW_SLOW, SHADOW_DIFFERENT})
OTHERS = SHADOW | {OUTCOMES, PARITY, DRIFT}
COUNTERS = (PREDICTOR | OTHERS) - {MODEL_INFO, DRIFT}

# Which labels tell the series of one metric and pod apart.
DETAIL = {
    REQUESTS: ("outcome",),
    SECONDS_BUCKET: ("le",),
    PREDICTIONS: ("bucket",),
    OUTPUT_VIOLATIONS: ("output", "rule"),
    OUTCOMES: ("outcome",),
    PARITY: ("result",),
    DRIFT: ("feature",),
    SHADOW_REQUESTS: ("outcome",),
    SHADOW_DIFFERENT: ("above",),
}


class SeriesKey(NamedTuple):
    """One time series: ``detail`` is the outcome, the bucket's bound or the drifting feature.

    ``segment`` holds the labels by which indicators are split, as `segment_text` writes them.
    """

    metric: str
    version: str
    pod: str
    detail: str = ""
    segment: str = ""


class Sample(NamedTuple):
    """A raw sample: Unix seconds and the cumulative value."""

    time: float
    value: float


@dataclass(frozen=True, slots=True)
class Series:
    """The raw samples of one series in a stretch of time, oldest first."""

    key: SeriesKey
    samples: tuple[Sample, ...]


# The largest weight beside a baseline: the stable arm goes on serving.
MOST_COMPARED = 49


class Shares(NamedTuple):
    """Shares of the traffic, in percent."""

    stable: int
    canary: int
    baseline: int = 0


def shares_at(percent: int, *, baseline: bool) -> Shares:
    """Return each arm's share where the canary has `percent`.

    The baseline has as much as the canary. Where that cannot be, because the canary has all the
    traffic or is to have it, nothing is compared any more, and the baseline has none.

    >>> shares_at(10, baseline=True)
    Shares(stable=80, canary=10, baseline=10)
    >>> shares_at(100, baseline=True)
    Shares(stable=0, canary=100, baseline=0)
    """
    compared = percent if baseline and percent <= MOST_COMPARED else 0
    return Shares(100 - percent - compared, percent, compared)


@dataclass(frozen=True, slots=True)
class Arms:
    """The versions that serve; the canary is compared with the ``reference``.

    ``baseline`` is what the counters of a fresh copy of the stable arm carry; empty: there is none.
    """

    stable: str
    canary: str
    baseline: str = ""

    @property
    def reference(self) -> str:
        """The version that the canary is compared with."""
        return self.baseline or self.stable

    @property
    def versions(self) -> tuple[str, ...]:
        """All versions that serve, the stable one first."""
        return tuple(filter(None, (self.stable, self.canary, self.baseline)))

    def shares(self, percent: int) -> Shares:
        """Return each arm's share where the canary has `percent`."""
        return shares_at(percent, baseline=bool(self.baseline))


def segment_text(labels: dict[str, str]) -> str:
    """Return labels as one text, the same for the same labels: ``country=DE;tier=gold``."""
    return ";".join(f"{key}={quote(labels[key], safe='')}" for key in sorted(labels))
