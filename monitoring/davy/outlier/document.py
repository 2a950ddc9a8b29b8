"""``outlier.json``: a fitted scorer and its threshold, as they travel in a package.

Belongs here: the file's schema, and both ways between it and the frozen states.
Not here: where the file lies, whether it is used.

Plain arrays of numbers: nothing of it runs when it is read.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from davy.core.errors import InvalidInputError
from davy.core.files import MachineWritten
from davy.outlier.encode import Encoder
from davy.outlier.interface import Rows
from davy.outlier.isolation_forest import IsolationForest
from davy.outlier.mahalanobis import Mahalanobis
from davy.outlier.threshold import Threshold

FILE = "outlier.json"


@dataclass(frozen=True, slots=True)
class OutlierDetector:
    """A scorer that a package carries, with the threshold that was calibrated for it."""

    scorer: Mahalanobis | IsolationForest
    threshold: Threshold

    def flags(self, rows: Rows) -> NDArray[np.bool_]:
        """Return which rows are outliers, of shape [rows]; errors as in `Scorer.score`."""
        # An infinite value is an outlier, not a warning.
        with np.errstate(all="ignore"):
            return self.threshold.flags(self.scorer.score(rows))


class EncoderState(MachineWritten):
    """Of `davy.outlier.encode.Encoder`."""

    numbers: list[str]
    scale: list[float]
    mean: list[float]
    deviation: list[float]
    indicators: list[int]
    share: list[float]
    categories: list[str]
    low: list[int]
    size: list[int]
    table: list[float]


class MahalanobisState(MachineWritten):
    """Of `davy.outlier.mahalanobis.Mahalanobis`."""

    method: Literal["mahalanobis"] = "mahalanobis"
    encoder: EncoderState
    whiten: list[list[float]]
    centre: list[float]


class IsolationForestState(MachineWritten):
    """Of `davy.outlier.isolation_forest.IsolationForest`."""

    method: Literal["isolation_forest"] = "isolation_forest"
    encoder: EncoderState
    roots: list[int]
    feature: list[int]
    threshold: list[float]
    right: list[int]
    length: list[float]
    expected: float
    depth: int


class ThresholdState(MachineWritten):
    """Of `davy.outlier.threshold.Threshold`."""

    value: float
    false_positive_rate: float
    rows: int


class OutlierDocument(MachineWritten):
    """The whole of ``outlier.json``."""

    schema_version: str = "1"
    scorer: Annotated[MahalanobisState | IsolationForestState, Field(discriminator="method")]
    threshold: ThresholdState


def to_document(detector: OutlierDetector) -> OutlierDocument:
    """Return what to write; `from_document` gives the same detector back, bit for bit."""
    scorer, threshold = detector.scorer, detector.threshold
    encoder = EncoderState(**_plain(scorer.encoder))
    kind = MahalanobisState if isinstance(scorer, Mahalanobis) else IsolationForestState
    state = kind(**_plain(scorer), encoder=encoder)
    return OutlierDocument(scorer=state, threshold=ThresholdState(**_plain(threshold)))


def read_detector(content: bytes) -> OutlierDetector:
    """Return the detector of an ``outlier.json``.

    Raises
    ------
    InvalidInputError
        It does not fit the schema, or its arrays do not fit each other.
    """
    try:
        document = OutlierDocument.model_validate_json(content)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise InvalidInputError(f"{place}: {problem['msg']}", where=FILE) from None
    return from_document(document)


def from_document(document: OutlierDocument) -> OutlierDetector:
    """Return the detector that was written.

    Raises
    ------
    InvalidInputError
        Its arrays do not fit each other.
    """
    try:
        return _detector(document)
    except (OverflowError, ValueError) as error:
        # A number that no array holds, or rows of a matrix that are not as long as each other.
        raise InvalidInputError(str(error), where=FILE) from error


def _detector(document: OutlierDocument) -> OutlierDetector:
    state = document.scorer
    encoder = _encoder(state.encoder)
    limit = document.threshold
    threshold = Threshold(limit.value, limit.false_positive_rate, limit.rows)
    if isinstance(state, MahalanobisState):
        whiten = np.array(state.whiten, np.float32)
        _fit("whiten", whiten.shape, (encoder.width, encoder.width))
        _fit("centre", (len(state.centre),), (encoder.width,))
        centre = np.array(state.centre, np.float32)
        return OutlierDetector(Mahalanobis(encoder, whiten, centre), threshold)
    return OutlierDetector(_forest(encoder, state), threshold)


def _plain(state: Encoder | Mahalanobis | IsolationForest | Threshold) -> dict[str, Any]:
    names = [item.name for item in fields(state) if item.init and item.name != "encoder"]
    values = {name: getattr(state, name) for name in names}
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in values.items()
    }


def _encoder(state: EncoderState) -> Encoder:
    encoder = Encoder(
        numbers=tuple(state.numbers),
        scale=np.array(state.scale, np.float32),
        mean=np.array(state.mean, np.float32),
        deviation=np.array(state.deviation, np.float32),
        indicators=np.array(state.indicators, np.int64),
        share=np.array(state.share, np.float32),
        categories=tuple(state.categories),
        low=np.array(state.low, np.int64),
        size=np.array(state.size, np.int64),
        table=np.array(state.table, np.float32),
    )
    numbers, categories = len(encoder.numbers), len(encoder.categories)
    _fit("mean, deviation", (encoder.mean.size, encoder.deviation.size), (numbers, numbers))
    _fit("share", (encoder.share.size,), (encoder.indicators.size,))
    _fit("low, size", (encoder.low.size, encoder.size.size), (categories, categories))
    # Before its sum: of sizes that no table has, that would be any number.
    if not _within(encoder.size, 0, encoder.table.size):
        raise InvalidInputError("its categories do not fit", where=FILE)
    _fit("table", (encoder.table.size,), (int((encoder.size + 1).sum()),))
    if encoder.scale.size > numbers or not _within(encoder.indicators, 0, numbers):
        raise InvalidInputError("its numbers do not fit", where=FILE)
    return encoder


def _forest(encoder: Encoder, state: IsolationForestState) -> IsolationForest:
    nodes = len(state.feature)
    sizes = (len(state.threshold), len(state.right), len(state.length))
    _fit("threshold, right, length", sizes, (nodes,) * 3)
    forest = IsolationForest(
        encoder=encoder,
        roots=np.array(state.roots, np.int64),
        feature=np.array(state.feature, np.int64),
        threshold=np.array(state.threshold, np.float64),
        right=np.array(state.right, np.int64),
        length=np.array(state.length, np.float64),
        expected=state.expected,
        depth=state.depth,
    )
    if (
        not _within(forest.roots, 0, nodes)
        or not _within(forest.right, 0, nodes)
        or not _within(forest.feature, -1, encoder.width)
        # A node goes left to the next one, so that the last one has to be a leaf.
        or (nodes and state.feature[-1] >= 0)
        or not 0 <= state.depth <= nodes
    ):
        raise InvalidInputError("its nodes do not fit", where=FILE)
    return forest


def _within(values: NDArray[np.int64], low: int, end: int) -> bool:
    return not values.size or bool(values.min() >= low and values.max() < end)


def _fit(what: str, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if found != expected:
        raise InvalidInputError(f"has sizes {found}, not {expected}", where=f"{FILE}: {what}")
