"""The two shapes that everything here has: what fits, and what scores.

Belongs here: the protocols and the form of rows. Not here: any implementation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Rows = Mapping[str, NDArray[Any]]
"""A column for each feature, of shape [rows]: floats with NaN for missing, or integers."""

Scores = NDArray[np.float32]


class Scorer(Protocol):
    """A frozen state that scores rows; may be called from any thread."""

    def score(self, rows: Rows) -> Scores:
        """Return one score a row, of shape [rows]; the higher, the stranger.

        A row that cannot be scored (an infinite value) has the score NaN or infinity.

        Raises
        ------
        InvalidInputError
            A feature of the reference is not among `rows`.
        """
        ...


class Fit(Protocol):
    """Learns from reference rows what is usual."""

    def __call__(self, reference: Rows) -> Scorer:
        """Return a scorer of rows like `reference`.

        Raises
        ------
        InvalidInputError
            The reference has too few rows, or no feature that varies.
        """
        ...
