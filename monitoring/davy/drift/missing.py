"""Missing values: the change of a feature's share of NaN.

Belongs here: that one measure, the same for every engine. Not here: the values that are there.

A broken join turns a column to NaN; tests on the values that remain would call that
insufficient, not drift.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Self

from davy.drift.distance import FeatureWindow, column, is_category, missing_share
from davy.drift.result import Distance


@dataclass(frozen=True, slots=True)
class MissingShare:
    """Absolute difference of the missing shares, for every float feature not in `skip`.

    Parameters
    ----------
    skip : collection of str
        Features whose missing values mean something else: a score is missing from a window when
        its payload event was lost on the way.
    """

    skip: Collection[str] = ()
    shares: dict[str, float] = field(default_factory=dict)
    columns: FeatureWindow = field(default_factory=dict)

    def fit(self, reference: FeatureWindow) -> Self:
        """Return a measure that compares with the shares of `reference`."""
        floats = {
            name: values
            for name, values in reference.items()
            if name not in self.skip and not is_category(values)
        }
        shares = {name: missing_share(values) for name, values in floats.items()}
        return type(self)(self.skip, shares, {name: values[:1] for name, values in floats.items()})

    def distances(self, window: FeatureWindow) -> tuple[Distance, ...]:
        """Return "missing" for each float feature; see `Measure`."""
        found = []
        for name, share in self.shares.items():
            values = column(window, name, like=self.columns[name])
            effect = abs(missing_share(values) - share) if values.size else float("nan")
            found.append(Distance(name, "missing", effect, effect, values.size))
        return tuple(found)
