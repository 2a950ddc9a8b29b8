"""Squared Mahalanobis distance of a row from the reference.

Belongs here: fitting and scoring it. Not here: the encoding, the threshold.

It finds single values far out and combinations that do not go together (a large spend in few
baskets), as far as a linear relation shows them. One matrix product: it costs little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from davy.core.errors import InvalidInputError
from davy.outlier.encode import Encoder, Floats, fit_encoder
from davy.outlier.interface import Rows, Scores

# Standard deviations at which a reference row's values are held when the covariance is estimated:
# a few wild rows of the reference must not make their kind usual.
CLIP = 5.0
# Added to the variance of every direction: one in which the reference hardly varies (two columns
# that are nearly the same) would make float noise an outlier.
RIDGE = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Mahalanobis:
    """|W e - c|², e the encoded row: W Wᵀ is the inverse of the reference's covariance.

    Attributes
    ----------
    encoder : Encoder
        Gives e.
    whiten : array
        W, of shape [width, width].
    centre : array
        c, of shape [width].

    References
    ----------
    Mahalanobis, "On the generalised distance in statistics", 1936.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> spend = rng.normal(50, 10, 1000)
    >>> rows = {"spend": spend, "tax": spend / 10 + rng.normal(0, 0.1, 1000)}
    >>> scorer = fit_mahalanobis(rows)
    >>> usual, impossible = scorer.score({"spend": np.array([60.0, 60.0]), "tax": np.array([6, 4])})
    >>> bool(usual < 10 < 100 < impossible)
    True
    """

    encoder: Encoder
    whiten: Floats
    centre: Floats

    def score(self, rows: Rows) -> Scores:
        """Return the squared distance of each row; see `davy.outlier.interface.Scorer`."""
        whitened = self.whiten @ self.encoder.encode(rows)
        whitened -= self.centre[:, None]
        scores: Scores = np.einsum("ij,ij->j", whitened, whitened)
        return scores


def fit_mahalanobis(reference: Rows) -> Mahalanobis:
    """Fit to reference rows; errors as in `davy.outlier.interface.Fit`."""
    encoder = fit_encoder(reference)
    encoded = clipped(encoder, reference)
    mean = encoded.mean(axis=1)
    covariance = np.atleast_2d(np.cov(encoded)) + RIDGE * np.eye(encoder.width)
    values, vectors = np.linalg.eigh(covariance)
    whiten = vectors.T / np.sqrt(values)[:, None]
    return Mahalanobis(encoder, whiten.astype(np.float32), (whiten @ mean).astype(np.float32))


def clipped(encoder: Encoder, reference: Rows) -> NDArray[np.float64]:
    """Return the encoded reference as the covariance is estimated from it, [width, rows].

    Raises
    ------
    InvalidInputError
        There are not more rows than columns.
    """
    encoded = encoder.encode(reference).astype(np.float64)
    width, rows = encoded.shape
    if rows <= width + 1:
        raise InvalidInputError(
            f"{rows} rows are too few for {width} columns",
            where="outlier reference",
            fix="Use a longer reference or fewer features",
        )
    return encoded.clip(-CLIP, CLIP)
