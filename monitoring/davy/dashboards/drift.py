"""Drift of one model: which feature, how far, since when, and whether anybody looks."""

from __future__ import annotations

from davy.dashboards.page import MODEL, Level, Page, Panel, Query, Row

_OF = '{model=~"$model"}'

DRIFT_PAGE = Page(
    uid="davy-drift",
    title="Davy / Drift",
    description="Windows of logged requests against past weeks.",
    choices=(MODEL,),
    span="now-24h",
    rows=(
        Row(
            "Features",
            (
                Panel(
                    "Drifted",
                    "Features that drifted in enough windows in a row: these alert.",
                    (
                        Query(
                            f"davy_drift_active{_OF} == 1", "{{version}} {{feature}} ({{detector}})"
                        ),
                    ),
                    shape="table",
                ),
                Panel(
                    "Distance from the reference",
                    "Of each feature's last window, 0 to 1.",
                    (Query(f"davy_drift_effect{_OF}", "{{version}} {{feature}} ({{detector}})"),),
                    low=0,
                    high=1,
                ),
                Panel(
                    "Rank among past weeks",
                    "Share of distances between past weeks that are as large: 0.01 is rare.",
                    (Query(f"davy_drift_p_value{_OF}", "{{version}} {{feature}} ({{detector}})"),),
                    low=0,
                    high=1,
                ),
                Panel(
                    "Outliers",
                    "Share of the last window's rows that the package's scorer calls outliers.",
                    (Query(f"davy_window_outlier_share{_OF}", "{{version}}"),),
                    unit="percentunit",
                    low=0,
                ),
            ),
        ),
        Row(
            "Windows",
            (
                Panel(
                    "Verdicts",
                    "Windows tested; insufficient ones say nothing.",
                    (
                        Query(
                            f"sum by (version, status) (davy_detector_windows_total{_OF})",
                            "{{version}} {{status}}",
                        ),
                    ),
                    low=0,
                ),
                Panel(
                    "Age of the last verdict",
                    "Seconds since a window last had rows enough.",
                    (Query(f"time() - davy_window_judged_timestamp_seconds{_OF}", "{{version}}"),),
                    unit="s",
                    low=0,
                ),
                Panel(
                    "Rows of the last window",
                    "Against the window's size that the package asks for.",
                    (Query(f"davy_window_rows{_OF}", "{{version}}"),),
                    low=0,
                ),
                Panel(
                    "Time to test a window",
                    "99th percentile.",
                    (
                        Query(
                            "histogram_quantile(0.99, sum by (le) "
                            "(rate(davy_detector_test_seconds_bucket[$__rate_interval])))",
                            "p99",
                        ),
                    ),
                    unit="s",
                    low=0,
                ),
            ),
        ),
        Row(
            "Events and labels",
            (
                Panel(
                    "Events received",
                    "Requests and responses a second, of versions that are watched.",
                    (
                        Query(
                            "sum by (version, type) "
                            f"(rate(davy_detector_events_total{_OF}[$__rate_interval]))",
                            "{{version}} {{type}}",
                        ),
                    ),
                    unit="cps",
                    low=0,
                ),
                Panel(
                    "Events not used",
                    "By reason; duplicates are no loss.",
                    (
                        Query(
                            "sum by (reason) (rate(davy_detector_dropped_total[$__rate_interval]))",
                            "{{reason}}",
                        ),
                    ),
                    unit="cps",
                    low=0,
                    levels=(Level(0, "green"), Level(0.1, "orange")),
                ),
                Panel(
                    "Labels joined",
                    "Labels a second that met the answer that they are about.",
                    (
                        Query(
                            "sum by (version) "
                            f"(rate(davy_labels_joined_total{_OF}[$__rate_interval]))",
                            "{{version}}",
                        ),
                    ),
                    unit="cps",
                    low=0,
                ),
                Panel(
                    "Answers that labels found wrong",
                    "Share of labelled answers.",
                    (
                        Query(
                            "sum by (version) (rate(davy_outcomes_total"
                            '{model=~"$model",outcome="wrong"}[$__rate_interval]))'
                            " / sum by (version) "
                            f"(rate(davy_outcomes_total{_OF}[$__rate_interval]))",
                            "{{version}}",
                        ),
                    ),
                    unit="percentunit",
                    low=0,
                ),
            ),
        ),
    ),
)
