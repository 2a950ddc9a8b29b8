"""All models on one page: who is asked, how well it goes, who needs a look."""

from __future__ import annotations

from davy.dashboards.page import TROUBLE, Level, Page, Panel, Query, Row

FAILED = 'outcome=~"server_error|timeout|shed"'

OVERVIEW = Page(
    uid="davy-overview",
    title="Davy / Overview",
    description="All models: traffic, failures, latency, drift, rollouts.",
    rows=(
        Row(
            "Now",
            (
                Panel(
                    "Firing alerts",
                    "Alerts of Davy that fire; their runbooks are linked from the page On call.",
                    (Query(f'count(ALERTS{{{TROUBLE},alertstate="firing"}}) or vector(0)'),),
                    shape="number",
                    width=6,
                    levels=(Level(0, "green"), Level(1, "red")),
                ),
                Panel(
                    "Versions served",
                    "Packages that some predictor serves now.",
                    (Query("count(max by (model, version) (davy_model_info) == 1)"),),
                    shape="number",
                    width=6,
                ),
                Panel(
                    "Canaries with traffic",
                    "Rollouts whose canary has some of the traffic but not all.",
                    (
                        Query(
                            'count(davy_rollout_weight{arm="canary"} > 0 < 100) or vector(0)',
                        ),
                    ),
                    shape="number",
                    width=6,
                ),
                Panel(
                    "Features that have drifted",
                    "Features further from their reference than past weeks, window after window.",
                    (Query("sum(davy_drift_active) or vector(0)"),),
                    shape="number",
                    width=6,
                    levels=(Level(0, "green"), Level(1, "orange")),
                ),
            ),
        ),
        Row(
            "Traffic",
            (
                Panel(
                    "Requests",
                    "Inference requests a second, refused ones too.",
                    (
                        Query(
                            "sum by (model) (rate(davy_requests_total[$__rate_interval]))",
                            "{{model}}",
                        ),
                    ),
                    unit="reqps",
                    shape="areas",
                ),
                Panel(
                    "Failures",
                    "Share of requests that end in an error, a timeout or are shed.",
                    (
                        Query(
                            "sum by (model) (rate(davy_requests_total{"
                            + FAILED
                            + "}[$__rate_interval]))"
                            " / sum by (model) (rate(davy_requests_total[$__rate_interval]))",
                            "{{model}}",
                        ),
                    ),
                    unit="percentunit",
                    levels=(Level(0, "green"), Level(0.05, "red")),
                    low=0,
                ),
                Panel(
                    "Latency",
                    "99th percentile of what was answered, from the histogram's buckets.",
                    (
                        Query(
                            "histogram_quantile(0.99, sum by (model, le) "
                            "(rate(davy_request_seconds_bucket[$__rate_interval])))",
                            "{{model}}",
                        ),
                    ),
                    unit="s",
                    low=0,
                ),
                Panel(
                    "Canary weight",
                    "Percent of the traffic, as read back from the router.",
                    (Query('max by (rollout) (davy_rollout_weight{arm="canary"})', "{{rollout}}"),),
                    unit="percent",
                    low=0,
                    high=100,
                ),
            ),
        ),
    ),
)
