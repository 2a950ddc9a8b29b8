"""The predictor's metrics, with the names and labels that the gate and the rules read.

Belongs here: declaring them, and what one request adds to them. Not here: serving ``/metrics``.

Children are bound once: looking a child up by its labels costs as much as counting. Every child
with bounded labels exists at 0 from the start, so that a rate over the first scrapes is right.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from davy.packaging.contract import Contract
from davy.predictor.validation import RULES, Violation
from davy.protocol.tensors import Tensor

Outcome = Literal["ok", "client_error", "server_error", "timeout", "shed"]
OUTCOMES: tuple[Outcome, ...] = ("ok", "client_error", "server_error", "timeout", "shed")
# A refused request says nothing of how fast the model answers.
TIMED: frozenset[Outcome] = frozenset({"ok", "server_error", "timeout"})

DropReason = Literal["queue_full", "timeout", "refused", "error"]
DROP_REASONS: tuple[DropReason, ...] = ("queue_full", "timeout", "refused", "error")

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
ROWS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
NOT_A_NUMBER = "NaN"


class PredictorMetrics:
    """What a predictor counts for one model.

    Parameters
    ----------
    registry : CollectorRegistry
        Where the metrics are registered.
    contract : Contract
        Names the model, its version, features, score buckets and latency objective.
    identity : str
        The package's identity.
    """

    def __init__(self, registry: CollectorRegistry, contract: Contract, identity: str) -> None:
        names = ("model", "version")
        labels = (contract.name, contract.version)
        objective = contract.rollout.latency_objective_seconds
        requests = Counter(
            "davy_requests_total", "Inference requests.", [*names, "outcome"], registry=registry
        )
        self._requests = {outcome: requests.labels(*labels, outcome) for outcome in OUTCOMES}
        self._seconds = Histogram(
            "davy_request_seconds",
            "Time from an inference request's arrival to its answer, refused requests left out.",
            names,
            registry=registry,
            buckets=sorted({*SECONDS, objective}),
        ).labels(*labels)
        self._rows = Histogram(
            "davy_batch_rows",
            "Rows executed together.",
            names,
            registry=registry,
            buckets=ROWS,
        ).labels(*labels)
        self._queue = Histogram(
            "davy_queue_seconds",
            "Time from a request being read to its execution.",
            names,
            registry=registry,
            buckets=SECONDS,
        ).labels(*labels)
        predictions = Counter(
            "davy_predictions_total",
            "Scores given, by the upper bound of the bucket that they fall into.",
            [*names, "bucket"],
            registry=registry,
        )
        self._edges = np.array(sorted(set(contract.calibration.score_buckets)), dtype=np.float64)
        bounds = [*(f"{edge:g}" for edge in self._edges), "+Inf", NOT_A_NUMBER]
        self._predictions = [predictions.labels(*labels, bound) for bound in bounds]
        violations = Counter(
            "davy_input_violations_total",
            "Values of requests that the contract does not allow.",
            [*names, "feature", "rule"],
            registry=registry,
        )
        self._violations = {
            (spec.name, rule): violations.labels(*labels, spec.name, rule)
            for spec in contract.inputs
            for rule in RULES
        }
        self._events = Counter(
            "davy_payload_events_total",
            "Payload events that the receiver took.",
            names,
            registry=registry,
        ).labels(*labels)
        dropped = Counter(
            "davy_payload_events_dropped_total",
            "Payload events that were not told, by the reason.",
            [*names, "reason"],
            registry=registry,
        )
        self._dropped = {reason: dropped.labels(*labels, reason) for reason in DROP_REASONS}
        Gauge(
            "davy_model_info",
            "The model that is served; always 1.",
            [*names, "quantization", "identity"],
            registry=registry,
            multiprocess_mode="max",
        ).labels(*labels, contract.quantization, identity).set(1)

    def request(self, outcome: Outcome, seconds: float) -> None:
        """Count one inference request and the time that it took."""
        self._requests[outcome].inc()
        if outcome in TIMED:
            self._seconds.observe(seconds)

    def executed(self, rows: int) -> None:
        """Count one execution, of one request or several."""
        self._rows.observe(rows)

    def waited(self, seconds: float) -> None:
        """Count how long one request waited for its execution."""
        self._queue.observe(seconds)

    def scored(self, score: Tensor) -> None:
        """Count the scores of one answer by bucket."""
        if score.data.dtype.kind != "f":
            return
        values = score.data.ravel()
        # The edges are sorted and NaN sorts after +Inf's bucket, which makes it the last one.
        places = np.searchsorted(self._edges, values)
        missing = np.isnan(values)
        if missing.any():
            places[missing] = len(self._edges) + 1
        counts = np.bincount(places)
        for place in counts.nonzero()[0]:
            self._predictions[place].inc(int(counts[place]))

    def violated(self, violations: Iterable[Violation]) -> None:
        """Count values that broke a rule, whatever the contract does about them."""
        for item in violations:
            self._violations[item.feature, item.rule].inc(item.values)

    def told(self, events: int) -> None:
        """Count payload events that the receiver took."""
        self._events.inc(events)

    def dropped(self, reason: DropReason, events: int) -> None:
        """Count payload events that were not told."""
        self._dropped[reason].inc(events)
