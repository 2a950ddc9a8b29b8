"""The same scores through alibi-detect's Mahalanobis and IForest.

Belongs here: the alibi engine's scorers, an oracle for ours and a choice for who has its licence.
Not here: the encoding, which is ours in both engines; thresholds; anything that serves.

alibi-detect takes seconds to import, so it is imported when a scorer is fitted. Since 0.11.5 it is
under the Business Source License 1.1. Its state cannot be written without TensorFlow, so a package
never holds these scorers; a forest that it grew does travel, as our arrays (`forest`).
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from davy.core.errors import MissingDependencyError
from davy.outlier.encode import Encoder, fit_encoder
from davy.outlier.forest_fit import TREES, as_arrays
from davy.outlier.interface import Rows, Scores
from davy.outlier.isolation_forest import IsolationForest
from davy.outlier.mahalanobis import RIDGE, clipped


@dataclass(frozen=True, slots=True, eq=False)
class AlibiMahalanobis:
    """``alibi_detect.od.Mahalanobis`` fitted to the encoded reference.

    Its scoring goes on learning from what it scores. Each row here is scored by a copy of the
    state that the reference gave, so that the order of rows means nothing; that makes it slow.
    """

    encoder: Encoder
    detector: Any

    def score(self, rows: Rows) -> Scores:
        """Return the squared distance of each row; see `davy.outlier.interface.Scorer`."""
        encoded = self.encoder.encode(rows).T.astype(np.float64)
        scores = [float(copy(self.detector).score(row[None, :])[0]) for row in encoded]
        return np.array(scores, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class AlibiForest:
    """``alibi_detect.od.IForest`` fitted to the encoded reference.

    Its score is that of `IsolationForest` less one half: 0 is scikit-learn's own threshold.
    """

    encoder: Encoder
    detector: Any

    def score(self, rows: Rows) -> Scores:
        """Return the score of each row; see `davy.outlier.interface.Scorer`."""
        scores: Scores = self.detector.score(self.encoder.encode(rows).T).astype(np.float32)
        return scores

    def forest(self) -> IsolationForest:
        """Return the forest that it grew as plain arrays."""
        return as_arrays(self.encoder, self.detector.isolationforest)


def fit_alibi_mahalanobis(reference: Rows) -> AlibiMahalanobis:
    """Fit to reference rows; errors as in `davy.outlier.interface.Fit`, and below.

    Raises
    ------
    MissingDependencyError
        alibi-detect is not installed, or something that it needs is not.
    """
    encoder = fit_encoder(reference)
    encoded = clipped(encoder, reference).T
    # What `clipped` did to the reference replaces its own clipping, and all directions count.
    detector = _load().Mahalanobis(
        threshold=np.inf, n_components=encoder.width, start_clip=2 * len(encoded)
    )
    detector.score(encoded)
    detector.C = detector.C + RIDGE * np.eye(encoder.width)
    return AlibiMahalanobis(encoder, detector)


def fit_alibi_forest(reference: Rows, *, seed: int = 0, trees: int = TREES) -> AlibiForest:
    """Fit to reference rows; errors as in `fit_alibi_mahalanobis`."""
    encoder = fit_encoder(reference)
    detector = _load().IForest(threshold=np.inf, n_estimators=trees)
    # It passes no seed on.
    detector.isolationforest.set_params(random_state=seed)
    detector.fit(encoder.encode(reference).T)
    return AlibiForest(encoder, detector)


def _load() -> Any:
    try:
        import alibi_detect.od as detectors
    except ImportError as error:
        raise MissingDependencyError(
            f"alibi-detect cannot be imported ({error})",
            where="outlier engine 'alibi'",
            fix="Install davylamp[monitor], or use the native engine",
        ) from None
    return detectors
