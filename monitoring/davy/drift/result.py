"""What a test of one window says, feature by feature.

Belongs here: the records that pass from the detectors to whoever shows or exports them.
Not here: how a verdict is reached (`judge.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from davy.drift.distance import DetectorName

Status = Literal["ok", "drift", "insufficient"]


@dataclass(frozen=True, slots=True)
class Distance:
    """How far a window's feature lies from the reference, before any judgement.

    ``effect`` is between 0 and 1 (see `davy.drift.distance`), ``statistic`` what the engine's
    own test computes (the same for "ks" and "missing", chi-square for "chi2"), ``values`` the
    number of rows of the window that had a value to compare.
    """

    feature: str
    detector: DetectorName
    effect: float
    statistic: float
    values: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """One number that a person understands, in the reference and in the window."""

    what: str
    reference: float | None
    window: float | None


@dataclass(frozen=True, slots=True)
class FeatureDrift:
    """The verdict on one feature by one detector.

    ``p_value`` is the rank of the effect among those of past windows (finite sample, never 0),
    ``adjusted`` the same after Benjamini-Hochberg over all tests of the window; both NaN when
    the status is "insufficient". ``comparisons`` and ``examples`` (values of the window as they
    came, None for missing) are there when the effect is above its floor.
    """

    feature: str
    detector: DetectorName
    status: Status
    effect: float
    floor: float
    p_value: float
    adjusted: float
    statistic: float
    reason: str = ""
    comparisons: tuple[Comparison, ...] = ()
    examples: tuple[float | int | None, ...] = ()


@dataclass(frozen=True, slots=True)
class DriftResult:
    """The verdict on one window: the worst of its features, each listed."""

    rows: int
    status: Status
    features: tuple[FeatureDrift, ...]
    reason: str = ""

    @property
    def drifted(self) -> tuple[FeatureDrift, ...]:
        """The features that drifted, largest effect first."""
        found = [item for item in self.features if item.status == "drift"]
        return tuple(sorted(found, key=lambda item: -item.effect))
