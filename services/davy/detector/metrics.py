"""What the detector tells Prometheus.

Belongs here: the metrics and how a verdict sets them. Not here: the registry, which is passed in.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from davy.drift.judge import Streaks
from davy.drift.result import DriftResult

_FEATURE = ("model", "version", "feature", "detector")
_VERSION = ("model", "version")

# Counters that survive a restart: their names in the ledger.
EVENTS = "events"
JOINED = "labels_joined"
EXPIRED = "labels_expired"
UNUSED = "labels_unused"
OUTCOMES = "outcomes"
ARCHIVED = "archived_rows"


class DetectorMetrics:
    """The detector's metrics on one registry.

    Parameters
    ----------
    registry : CollectorRegistry
        Where they are registered; not the process-wide one in tests.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.effect = Gauge(
            "davy_drift_effect",
            "Distance of the last window from the reference, 0 to 1; NaN when insufficient.",
            _FEATURE,
            registry=registry,
        )
        self.p_value = Gauge(
            "davy_drift_p_value",
            "Rank of that distance among those of past windows; NaN when insufficient.",
            _FEATURE,
            registry=registry,
        )
        self.active = Gauge(
            "davy_drift_active",
            "1 when a feature drifted in enough windows in a row, else 0.",
            _FEATURE,
            registry=registry,
        )
        self.window_rows = Gauge(
            "davy_window_rows", "Rows of the last window.", _VERSION, registry=registry
        )
        self.window_end = Gauge(
            "davy_window_end_timestamp_seconds",
            "When the last window ended, whatever came of it, seconds since the epoch.",
            _VERSION,
            registry=registry,
        )
        self.window_judged = Gauge(
            "davy_window_judged_timestamp_seconds",
            "When a window last had rows enough for a verdict, seconds since the epoch.",
            _VERSION,
            registry=registry,
        )
        self.outlier_share = Gauge(
            "davy_window_outlier_share",
            "Share of the last window's rows that the package's scorer calls outliers; NaN when "
            "insufficient.",
            _VERSION,
            registry=registry,
        )
        self.windows = Counter(
            "davy_detector_windows",
            "Windows tested, by verdict: ok, drift, insufficient or error.",
            (*_VERSION, "status"),
            registry=registry,
        )
        self.events = Counter(
            "davy_detector_events",
            "Payload events of watched versions, by type: request or response.",
            (*_VERSION, "type"),
            registry=registry,
        )
        self.late_rows = Counter(
            "davy_detector_late_rows",
            "Rows that came too late for their place in the order of events; they count in the "
            "window that was open then.",
            _VERSION,
            registry=registry,
        )
        self.dropped = Counter(
            "davy_detector_dropped",
            "Payload events that were not used, by reason.",
            ("reason",),
            registry=registry,
        )
        self.test_seconds = Histogram(
            "davy_detector_test_seconds",
            "Time to test one window.",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
            registry=registry,
        )

        self.joined = Counter(
            "davy_labels_joined",
            "Labels that met the answer that they are about.",
            _VERSION,
            registry=registry,
        )
        self.expired = Counter(
            "davy_labels_expired",
            "Answers that were let go of before a label came.",
            _VERSION,
            registry=registry,
        )
        self.unused = Counter(
            "davy_labels_unused",
            "Labels that say nothing, by reason: no answer came (unmatched), told before "
            "(duplicate), not as many values as rows (other_rows), and what was refused; also each "
            "table of labels that could not be read (table).",
            ("reason",),
            registry=registry,
        )
        self.outcomes = Counter(
            "davy_outcomes",
            "Answers that a label found right or wrong.",
            # The last two say whose answers they were; Prometheus drops them where empty.
            (*_VERSION, "outcome", "namespace", "serving_kserve_io_inferenceservice"),
            registry=registry,
        )
        self.realised = Gauge(
            "davy_performance_realised",
            "Performance over the last labels of a version, by the name of the measure.",
            (*_VERSION, "metric", "segment"),
            registry=registry,
        )
        self.estimate = Gauge(
            "davy_performance_estimate",
            "Performance over the last window, expected from its scores alone; NaN when "
            "insufficient.",
            (*_VERSION, "metric", "segment"),
            registry=registry,
        )
        self.archived = Counter(
            "davy_detector_archived_rows",
            "Rows that were written to the archive.",
            _VERSION,
            registry=registry,
        )
        self.archive_failed = Counter(
            "davy_detector_archive_failures",
            "Writings to the archive that failed and are tried again.",
            registry=registry,
        )
        # By their names in the ledger.
        self._kept: Mapping[str, Counter] = {
            EVENTS: self.events,
            JOINED: self.joined,
            EXPIRED: self.expired,
            UNUSED: self.unused,
            OUTCOMES: self.outcomes,
            ARCHIVED: self.archived,
        }

    def window(
        self, model: str, version: str, result: DriftResult, streaks: Streaks, now: datetime
    ) -> None:
        """Show the verdict on one window."""
        self.window_rows.labels(model, version).set(result.rows)
        self.window_end.labels(model, version).set(now.timestamp())
        if result.status != "insufficient":
            self.window_judged.labels(model, version).set(now.timestamp())
        self.windows.labels(model, version, result.status).inc()
        for item in result.features:
            labels = (model, version, item.feature, item.detector)
            streak = streaks.get((item.feature, item.detector))
            self.effect.labels(*labels).set(item.effect)
            self.p_value.labels(*labels).set(item.p_value)
            self.active.labels(*labels).set(1 if streak and streak.active else 0)

    def counted(self, rises: Mapping[tuple[str, tuple[str, ...]], int]) -> None:
        """Add what the ledger has counted; a rise by 0 makes a series known."""
        for (name, labels), rise in rises.items():
            if counter := self._kept.get(name):
                counter.labels(*labels).inc(rise)

    def drop_counter(self, name: str, labels: tuple[str, ...]) -> None:
        """Show a counter of the ledger no more."""
        with contextlib.suppress(KeyError):  # it was never shown
            self._kept[name].remove(*labels)

    def forget(self, model: str, version: str) -> None:
        """Remove the gauges of a version that is no longer watched, so that no alert hangs."""
        for gauge in (
            self.effect,
            self.p_value,
            self.active,
            self.window_rows,
            self.window_end,
            self.window_judged,
            self.outlier_share,
            self.estimate,
        ):
            gauge.remove_by_labels({"model": model, "version": version})

    def dropped_by_reason(self) -> Mapping[str, int]:
        """Return the dropped events by reason, as they are counted."""
        return {
            sample.labels["reason"]: int(sample.value)
            for metric in self.dropped.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
        }
