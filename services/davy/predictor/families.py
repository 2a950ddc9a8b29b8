"""The predictor's metric families, declared once a process whatever number of models it serves.

Belongs here: names, labels, help, buckets. Not here: what a request adds to them
(`davy.predictor.metrics`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric

from davy.predictor.segments import NO_SEGMENTS, Segments
from davy.predictor.tally import Tallies

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
ROWS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
LABELS = ("model", "version")


class RequestSeconds:
    """A histogram of which each model has a bucket at its own objective."""

    NAME = "davy_request_seconds"
    HELP = "Time from an inference request's arrival to its answer, refused requests left out."

    def __init__(self, registry: CollectorRegistry, segments: Sequence[str]) -> None:
        self._histograms: dict[float, Histogram] = {}
        self._labels = (*LABELS, *segments)
        registry.register(self)

    def labels(self, objective: float, *labels: str) -> Histogram:
        """Return the child of these labels, made with a bucket at `objective` seconds."""
        histogram = self._histograms.get(objective)
        if histogram is None:
            buckets = sorted({*SECONDS, objective})
            histogram = Histogram(
                self.NAME, self.HELP, self._labels, registry=None, buckets=buckets
            )
            self._histograms[objective] = histogram
        return histogram.labels(*labels)

    def describe(self) -> Iterable[Metric]:
        """Return the family without samples."""
        return [Metric(self.NAME, self.HELP, "histogram")]

    def collect(self) -> Iterable[Metric]:
        """Return the models' samples as one family."""
        family = Metric(self.NAME, self.HELP, "histogram")
        for histogram in self._histograms.values():
            for part in histogram.collect():
                family.samples += part.samples
        return [family]


class MetricFamilies:
    """Every family of the predictor, registered.

    Parameters
    ----------
    registry : CollectorRegistry
        Where they are registered.
    segments : Segments
        Further labels of what the gate splits by segment.
    """

    def __init__(self, registry: CollectorRegistry, segments: Segments = NO_SEGMENTS) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, [*LABELS, *labels], registry=registry)

        def histogram(name: str, text: str, buckets: Iterable[float]) -> Histogram:
            return Histogram(name, text, LABELS, registry=registry, buckets=tuple(buckets))

        self.segments = segments
        # First, so that a scrape reads what was counted until then.
        self.tallies = Tallies()
        registry.register(self.tallies)
        labels = segments.labels
        self.requests = counter("davy_requests_total", "Inference requests.", "outcome", *labels)
        self.seconds = RequestSeconds(registry, labels)
        self.rows = histogram("davy_batch_rows", "Rows executed together.", ROWS)
        self.queue = histogram(
            "davy_queue_seconds", "Time from a request being read to its execution.", SECONDS
        )
        self.predictions = counter(
            "davy_predictions_total",
            "Scores given, by the upper bound of the bucket that they fall into.",
            "bucket",
            *labels,
        )
        self.violations = counter(
            "davy_input_violations_total",
            "Values of requests that the contract does not allow.",
            "feature",
            "rule",
        )
        self.output_violations = counter(
            "davy_output_violations_total",
            "Answers whose outputs break the contract, by the first rule that they break.",
            "output",
            "rule",
            *labels,
        )
        self.outliers = counter(
            "davy_outliers_total",
            "Rows answered that the package's scorer calls outliers.",
            *labels,
        )
        self.outlier_failures = counter(
            "davy_outlier_failures_total", "Requests answered whose rows could not be scored."
        )
        self.events = counter("davy_payload_events_total", "Payload events that the receiver took.")
        self.dropped = counter(
            "davy_payload_events_dropped_total",
            "Payload events that were not told, by the reason.",
            "reason",
        )
        self.info = Gauge(
            "davy_model_info",
            "1 while the model is served, 0 after that.",
            [*LABELS, "quantization", "identity"],
            registry=registry,
            multiprocess_mode="max",
        )
