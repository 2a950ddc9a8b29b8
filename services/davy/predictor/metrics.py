"""The predictor's metrics, with the names and labels that the gate and the rules read.

Belongs here: what one request adds to them. Not here: declaring them
(`davy.predictor.families`), serving ``/metrics``.

Children are bound once: looking a child up by its labels costs as much as counting. Every child
with bounded labels exists at 0 from the start, so that a rate over the first scrapes is right.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Literal

import numpy as np
from prometheus_client import Counter

from davy.packaging.contract import Contract
from davy.predictor.families import MetricFamilies
from davy.predictor.outputs import OutputRule, rules
from davy.predictor.validation import RULES, Violation
from davy.protocol.names import baseline_version
from davy.protocol.tensors import Tensor

Outcome = Literal["ok", "client_error", "server_error", "timeout", "shed"]
OUTCOMES: tuple[Outcome, ...] = ("ok", "client_error", "server_error", "timeout", "shed")
# A refused request says nothing of how fast the model answers.
TIMED: frozenset[Outcome] = frozenset({"ok", "server_error", "timeout"})

DropReason = Literal["queue_full", "timeout", "refused", "error"]
DROP_REASONS: tuple[DropReason, ...] = ("queue_full", "timeout", "refused", "error")

NOT_A_NUMBER = "NaN"
# So many scores are counted sooner one by one than as an array.
FEW = 16


class PredictorMetrics:
    """What a predictor counts for one model.

    Parameters
    ----------
    families : MetricFamilies
        Where the metrics are registered.
    contract : Contract
        Names the model, its version, features, score buckets and latency objective.
    identity : str
        The package's identity.
    baseline : bool
        Whether this server is a baseline: its counters are then another arm's than those of the
        servers that were there before.
    """

    def __init__(
        self, families: MetricFamilies, contract: Contract, identity: str, *, baseline: bool = False
    ) -> None:
        version = baseline_version(contract.version) if baseline else contract.version
        labels = (contract.name, version)
        objective = contract.rollout.latency_objective_seconds
        tallies = families.tallies
        # Of each, one for every segment, by its place.
        segments = families.segments.combinations()
        self._requests = [
            {o: tallies.counter(families.requests.labels(*labels, o, *of)) for o in OUTCOMES}
            for of in segments
        ]
        self._seconds = [
            tallies.histogram(families.seconds.labels(objective, *labels, *of)) for of in segments
        ]
        self._rows = tallies.histogram(families.rows.labels(*labels))
        self._queue = tallies.histogram(families.queue.labels(*labels))
        self._edges = np.array(sorted(set(contract.calibration.score_buckets)), dtype=np.float64)
        bounds = [*(f"{edge:g}" for edge in self._edges), "+Inf", NOT_A_NUMBER]
        self._predictions = [
            [tallies.counter(families.predictions.labels(*labels, b, *of)) for b in bounds]
            for of in segments
        ]
        self._edge_list: list[float] = self._edges.tolist()
        self._edges_and_infinity = np.append(self._edges, np.inf)
        self._violations = {
            (spec.name, rule): families.violations.labels(*labels, spec.name, rule)
            for spec in contract.inputs
            for rule in RULES
        }
        self._broken = [
            {
                (spec.name, rule): tallies.counter(
                    families.output_violations.labels(*labels, spec.name, rule, *of)
                )
                for spec in contract.outputs
                for rule in rules(spec)
            }
            for of in segments
        ]
        self._families = families
        self._labels = labels
        self._outliers: list[Counter] = []
        self._outlier_failures: Counter | None = None
        self._events = families.events.labels(*labels)
        self._dropped = {r: families.dropped.labels(*labels, r) for r in DROP_REASONS}
        self._info = families.info.labels(*labels, contract.quantization, identity)
        self._info.set(1)

    def serving(self, *, served: bool) -> None:
        """Say whether the model is served."""
        self._info.set(1 if served else 0)

    def request(self, outcome: Outcome, seconds: float, segment: int = 0) -> None:
        """Count one inference request, the time that it took, and both within its segment."""
        self._requests[segment][outcome].inc()
        if outcome in TIMED:
            self._seconds[segment].observe(seconds)

    def executed(self, rows: int) -> None:
        """Count one execution, of one request or several."""
        self._rows.observe(rows)

    def waited(self, seconds: float, requests: int = 1) -> None:
        """Count how long one request waited for its execution, or each of several."""
        self._queue.observe(seconds, requests)

    def scored(self, score: Tensor, segment: int = 0) -> None:
        """Count the scores of one answer by bucket."""
        if score.data.dtype.kind != "f":
            return
        predictions = self._predictions[segment]
        values = score.data.ravel()
        if len(values) <= FEW:
            for value in values.tolist():
                # NaN is unequal to itself, and sorts after +Inf's bucket.
                place = bisect_left(self._edge_list, value) if value == value else -1  # noqa: PLR0124
                predictions[place].inc()
            return
        # NaN sorts last, behind infinity. To sort the values and look the few edges up is a third
        # of the time of looking up every value.
        ordered = np.sort(values)
        below = 0
        ends = [*ordered.searchsorted(self._edges_and_infinity, "right").tolist(), len(ordered)]
        for tally, end in zip(predictions, ends, strict=True):
            if end > below:
                tally.inc(end - below)
                below = end

    def violated(self, violations: Iterable[Violation]) -> None:
        """Count values that broke a rule, whatever the contract does about them."""
        for item in violations:
            self._violations[item.feature, item.rule].inc(item.values)

    def broke(self, output: str, rule: OutputRule, segment: int = 0) -> None:
        """Count one answer, by the first of its outputs that breaks the contract."""
        self._broken[segment][output, rule].inc()

    def score_outliers(self) -> None:
        """Begin to count outliers: where none are looked for, there is no 0 to be taken for one."""
        families = self._families
        self._outliers = [
            families.outliers.labels(*self._labels, *of) for of in families.segments.combinations()
        ]
        self._outlier_failures = families.outlier_failures.labels(*self._labels)

    def outliers(self, rows: int, segment: int = 0) -> None:
        """Count rows that are outliers."""
        if self._outliers:
            self._outliers[segment].inc(rows)

    def outliers_failed(self) -> None:
        """Count a request whose rows could not be scored."""
        if self._outlier_failures is not None:
            self._outlier_failures.inc()

    def told(self, events: int) -> None:
        """Count payload events that the receiver took."""
        self._events.inc(events)

    def dropped(self, reason: DropReason, events: int) -> None:
        """Count payload events that were not told."""
        self._dropped[reason].inc(events)
