"""The same distances through alibi-detect's KSDrift and ChiSquareDrift.

Belongs here: the alibi engine's measures. Not here: missing values, verdicts.

alibi-detect takes seconds to import, so it is imported when a measure is fitted. Since 0.11.5 it
is under the Business Source License 1.1; the native engine gives the same verdicts without it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Self

import numpy as np

from davy.core.errors import MissingDependencyError
from davy.drift.distance import (
    FeatureWindow,
    column,
    is_category,
    present,
    total_variation,
    value_detector,
)
from davy.drift.result import Distance


def check() -> None:
    """Make sure that alibi-detect is installed, without the seconds that importing it takes.

    Raises
    ------
    MissingDependencyError
        It is not.
    """
    if find_spec("alibi_detect") is None:
        raise _missing("it is not installed")


def load() -> Any:
    """Import and return ``alibi_detect.cd``.

    Raises
    ------
    MissingDependencyError
        It is not installed, or something that it needs is not.
    """
    try:
        import alibi_detect.cd as detectors
    except ImportError as error:
        raise _missing(str(error)) from None
    return detectors


def _missing(reason: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"alibi-detect cannot be imported ({reason})",
        where="drift engine 'alibi'",
        fix="Install davylamp[monitor], or set DAVY_DETECTOR_ENGINE=native",
    )


@dataclass(frozen=True, slots=True)
class AlibiTabular:
    """Univariate distances of each feature, missing values left out.

    The detectors are built per feature because alibi-detect's have no notion of a missing value:
    one NaN in a column would make its distance NaN.
    """

    reference: FeatureWindow = field(default_factory=dict)
    detectors: dict[str, Any] = field(default_factory=dict)

    def fit(self, reference: FeatureWindow) -> Self:
        """Return a measure that compares with `reference`."""
        cd = load()
        detectors: dict[str, Any] = {}
        for name, values in reference.items():
            rows = present(values)[:, None]
            if not rows.size:
                continue
            detectors[name] = cd.ChiSquareDrift(rows) if is_category(values) else cd.KSDrift(rows)
        return type(self)(reference, detectors)

    def distances(self, window: FeatureWindow) -> tuple[Distance, ...]:
        """Return "ks" for float features and "chi2" for integer ones; see `Measure`."""
        return tuple(self._distance(name, window) for name in self.reference)

    def _distance(self, name: str, window: FeatureWindow) -> Distance:
        reference = self.reference[name]
        sample = present(column(window, name, like=reference))
        kind = value_detector(reference)
        detector = self.detectors.get(name)
        if detector is None or not sample.size:
            return Distance(name, kind, float("nan"), float("nan"), 0)
        found = detector.predict(sample[:, None], return_p_val=False, return_distance=True)
        statistic = float(np.asarray(found["data"]["distance"]).ravel()[0])
        # Chi-square grows with the sample; what a floor is put under must not.
        effect = total_variation(sample, reference) if kind == "chi2" else statistic
        return Distance(name, kind, effect, statistic, sample.size)
