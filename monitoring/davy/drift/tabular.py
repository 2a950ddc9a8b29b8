"""The detector for tables: measures, judged against past weeks.

Belongs here: putting an engine's measures and the judge together. Not here: either of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Self

from davy.drift.describe import compare, examples
from davy.drift.distance import FeatureWindow
from davy.drift.interface import Measure
from davy.drift.judge import TOLERANCE, Null, Rules, TestKey, judge
from davy.drift.missing import MissingShare
from davy.drift.result import DriftResult, FeatureDrift
from davy.drift.tabular_alibi import AlibiTabular
from davy.drift.tabular_native import NativeTabular
from davy.protocol.names import SCORE

Engine = Literal["alibi", "native"]


@dataclass(frozen=True, slots=True)
class TabularDetector:
    """Tests a window of a table's rows, feature by feature.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> nulls = {("price", "ks"): Null(np.linspace(0.01, 0.1, 100), floor=0.12)}
    >>> detector = TabularDetector((NativeTabular(),), nulls, Rules(window_rows=200))
    >>> fitted = detector.fit({"price": rng.normal(2, 1, 1000)})
    >>> fitted.test({"price": rng.normal(2, 1, 200)}).status
    'ok'
    >>> fitted.test({"price": rng.normal(3, 1, 200)}).drifted[0].feature
    'price'
    """

    measures: Sequence[Measure]
    nulls: Mapping[TestKey, Null]
    rules: Rules
    reference: FeatureWindow = field(default_factory=dict)

    def fit(self, reference: FeatureWindow) -> Self:
        """Return a detector that compares with `reference`."""
        fitted = tuple(measure.fit(reference) for measure in self.measures)
        return type(self)(fitted, self.nulls, self.rules, reference)

    def test(self, window: FeatureWindow) -> DriftResult:
        """Return the verdict on `window`; errors as in `Measure.distances`."""
        distances = [item for measure in self.measures for item in measure.distances(window)]
        rows = max((len(values) for values in window.values()), default=0)
        result = judge(distances, self.nulls, self.rules, rows=rows)
        return replace(
            result, features=tuple(self._shown(item, window) for item in result.features)
        )

    def _shown(self, item: FeatureDrift, window: FeatureWindow) -> FeatureDrift:
        if not item.effect >= item.floor - TOLERANCE:
            return item
        values = window[item.feature]
        compared = compare(item.detector, self.reference[item.feature], values)
        return replace(item, comparisons=compared, examples=examples(values))


def tabular_detector(
    engine: Engine, nulls: Mapping[TestKey, Null], rules: Rules
) -> TabularDetector:
    """Return an unfitted detector of one of the engines; both give the same verdicts.

    Lost payload events, not the model, make scores missing: that share is not watched.
    """
    values: Measure = AlibiTabular() if engine == "alibi" else NativeTabular()
    return TabularDetector((values, MissingShare(skip=(SCORE,))), nulls, rules)
