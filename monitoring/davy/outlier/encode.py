"""Mixed features to standardised numbers, fast enough for the request path.

Belongs here: the one encoding that all scorers share. Not here: scores.

- A number is standardised; one whose skewness in the reference is above `SKEWED` (spending, counts)
  goes through sign(x) log(1 + |x| / scale) first, or its tail would be the outlier.
- A missing number counts as the mean. Where the reference has missing values, being missing is a
  feature of its own; where it has none, a missing value breaks the contract and is counted there.
- A category is its surprisal, -log of its (Laplace-smoothed) share of the reference, standardised.
  An integer with more than `CATEGORIES` distinct values is a number.
- What does not vary in the reference is left out: nothing says how far is far.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from davy.core.errors import InvalidInputError
from davy.outlier.interface import Rows

CATEGORIES = 256
SPAN = 4096
SKEWED = 1.0

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Encoder:
    """What the reference said of each feature.

    Attributes
    ----------
    numbers : tuple of str
        Numeric features; the first ``len(scale)`` of them go through the logarithm.
    scale, mean, deviation : arrays
        Of the logarithms, [logarithms]; of numbers after that, [numbers].
    indicators, share : arrays
        Places in `numbers` of what may be missing, and the share of the reference that is.
    categories : tuple of str
        Categorical features.
    low, size, table : arrays
        Lowest code and number of codes of each; their encodings one category after another, each
        with the one of an unknown code at its end.
    """

    numbers: tuple[str, ...]
    scale: Floats
    mean: Floats
    deviation: Floats
    indicators: Integers
    share: Floats
    categories: tuple[str, ...]
    low: Integers
    size: Integers
    table: Floats
    _spread: Floats = field(init=False, repr=False)
    _limits: NDArray[np.uint64] = field(init=False, repr=False)
    _starts: Integers = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Small sums, but each costs a microsecond in every request.
        spread = np.sqrt(self.share * (1 - self.share))[:, None]
        object.__setattr__(self, "_spread", spread)
        object.__setattr__(self, "_limits", self.size.astype(np.uint64)[:, None])
        object.__setattr__(self, "_starts", (np.cumsum(self.size + 1) - self.size - 1)[:, None])

    @property
    def width(self) -> int:
        """The number of encoded columns."""
        return len(self.numbers) + self.indicators.size + len(self.categories)

    def encode(self, rows: Rows) -> Floats:
        """Return the rows as an array of shape [width, rows].

        A column a row of the array: features arrive as columns, and copying them is most of the
        work. Raises InvalidInputError where a feature is missing from `rows`.
        """
        try:
            numbers = [rows[name] for name in self.numbers]
            codes = [rows[name] for name in self.categories]
        except KeyError as error:
            raise InvalidInputError("is missing", where=f"feature '{error.args[0]}'") from None
        count = len((numbers or codes)[0])
        block = np.empty((self.width, count), np.float32)
        end = len(numbers)
        if numbers:
            self._numbers(numbers, block[:end], block[end : end + self.indicators.size])
        if codes:
            self._codes(codes, block[end + self.indicators.size :])
        return block

    def _numbers(self, columns: list[NDArray[Any]], block: Floats, indicators: Floats) -> None:
        np.concatenate(columns, out=block.reshape(-1), casting="unsafe")
        if self.scale.size:
            skewed = block[: self.scale.size]
            size = np.abs(skewed)
            size /= self.scale[:, None]
            size += 1
            np.log(size, out=size)
            np.copysign(size, skewed, out=skewed)
        block -= self.mean[:, None]
        block /= self.deviation[:, None]
        missing = np.isnan(block)
        if self.indicators.size:
            np.subtract(missing[self.indicators], self.share[:, None], out=indicators)
            indicators /= self._spread
        if missing.any():
            block[missing] = 0

    def _codes(self, columns: list[NDArray[Any]], block: Floats) -> None:
        places = np.empty(block.shape, np.int64)
        np.concatenate(columns, out=places.reshape(-1), casting="unsafe")
        places -= self.low[:, None]
        # As unsigned numbers, codes below the lowest are above the highest: one comparison.
        places = np.minimum(places.view(np.uint64), self._limits).view(np.int64)
        places += self._starts
        np.take(self.table, places, out=block, mode="clip")


def fit_encoder(reference: Rows) -> Encoder:
    """Learn the encoding from reference rows.

    Raises
    ------
    InvalidInputError
        No feature varies, or a column is neither floats nor integers.

    Examples
    --------
    >>> rows = {"price": np.array([1.0, 2.0, np.nan]), "aisle": np.array([0, 0, 1])}
    >>> (fit_encoder(rows).encode(rows) * 100).round().tolist()
    [[-100.0, 100.0, 0.0], [-71.0, -71.0, 141.0], [-71.0, -71.0, 141.0]]
    """
    plain: list[_Number] = []
    skewed: list[_Number] = []
    categories: list[_Category] = []
    for name, column in reference.items():
        if column.dtype.kind not in "fiu":
            raise InvalidInputError(
                f"is {column.dtype}, neither floats nor integers", where=f"feature '{name}'"
            )
        category = _category(name, column) if column.dtype.kind in "iu" else None
        if category is not None:
            categories.append(category)
            continue
        number = _number(name, column.astype(np.float64))
        (skewed if number.scale else plain).append(number)
    numbers = [item for item in (*skewed, *plain) if item.deviation > 0]
    categories = [item for item in categories if item.codes.any()]
    if not numbers and not categories:
        raise InvalidInputError("no feature varies", where="outlier reference")
    indicators = [place for place, item in enumerate(numbers) if item.missing > 0]
    return Encoder(
        numbers=tuple(item.name for item in numbers),
        scale=_floats([item.scale for item in numbers if item.scale]),
        mean=_floats([item.mean for item in numbers]),
        deviation=_floats([item.deviation for item in numbers]),
        indicators=np.array(indicators, np.int64),
        share=_floats([numbers[place].missing for place in indicators]),
        categories=tuple(item.name for item in categories),
        low=np.array([item.low for item in categories], np.int64),
        size=np.array([item.codes.size - 1 for item in categories], np.int64),
        table=_floats([value for item in categories for value in item.codes]),
    )


@dataclass(frozen=True, slots=True)
class _Number:
    name: str
    scale: float
    mean: float
    deviation: float
    missing: float


@dataclass(frozen=True, slots=True)
class _Category:
    name: str
    low: int
    codes: NDArray[np.float64]


def _floats(values: list[float]) -> Floats:
    return np.array(values, np.float32)


def _number(name: str, column: NDArray[np.float64]) -> _Number:
    values = column[np.isfinite(column)]
    missing = float(np.isnan(column).mean()) if column.size else 0.0
    if values.size < 2 or np.ptp(values) == 0:
        return _Number(name, 0.0, 0.0, 0.0, missing)
    scale = 0.0
    if _skewness(values) > SKEWED:
        scale = float(np.median(np.abs(values[values != 0])))
        values = np.sign(values) * np.log1p(np.abs(values) / scale)
    return _Number(name, scale, float(values.mean()), float(values.std()), missing)


def _skewness(values: NDArray[np.float64]) -> float:
    centred = values - values.mean()
    return float(abs(np.mean(centred**3) / np.mean(centred**2) ** 1.5))


def _category(name: str, column: NDArray[Any]) -> _Category | None:
    if not column.size:
        return _Category(name, 0, np.zeros(1))
    low, high = int(column.min()), int(column.max())
    if high - low >= SPAN:
        return None
    counts = np.bincount(column.astype(np.int64) - low)
    if np.count_nonzero(counts) > CATEGORIES:
        return None
    known = np.append(counts, 0)
    surprisal = -np.log((known + 1) / (column.size + known.size))
    seen = np.repeat(surprisal, known)
    if np.ptp(seen) == 0 and np.count_nonzero(counts) == 1:
        return _Category(name, low, np.zeros(1))
    # Categories that are all as frequent have no spread; an unknown one then is a bit strange.
    deviation = float(seen.std()) or 1.0
    return _Category(name, low, (surprisal - seen.mean()) / deviation)
