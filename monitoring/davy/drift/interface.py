"""The two shapes that everything here has: what measures, and what tests.

Belongs here: the protocols. Not here: any implementation; there is one a file beside this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self

from davy.drift.distance import FeatureWindow
from davy.drift.result import Distance, DriftResult


class Measure(Protocol):
    """Distances of a window from a reference; an engine is a list of these."""

    def fit(self, reference: FeatureWindow) -> Self:
        """Return a measure that compares with `reference`; this one stays as it is."""
        ...

    def distances(self, window: FeatureWindow) -> Sequence[Distance]:
        """Return one distance per feature that this measure looks at, in the reference's order.

        Raises
        ------
        InvalidInputError
            A feature of the reference is not in the window, or is of another type there.
        """
        ...


class Detector(Protocol):
    """A verdict on a window."""

    def fit(self, reference: FeatureWindow) -> Self:
        """Return a detector that compares with `reference`; this one stays as it is."""
        ...

    def test(self, window: FeatureWindow) -> DriftResult:
        """Return the verdict; errors as in `Measure.distances`."""
        ...
