"""The first page of a night: what fires, since when, and how much of the budget is left."""

from __future__ import annotations

from davy.dashboards.page import TROUBLE, Level, Page, Panel, Query, Row

ON_CALL = Page(
    uid="davy-on-call",
    title="Davy / On call",
    description="What fires, how fast budgets burn, whether the watchers are there.",
    span="now-3h",
    rows=(
        Row(
            "Alerts",
            (
                Panel(
                    "Firing",
                    "Each has a runbook: monitoring/runbooks/ALERT.md.",
                    (
                        Query(
                            f'ALERTS{{{TROUBLE},alertstate="firing"}}',
                            "{{alertname}} {{severity}} {{model}} {{version}} {{rollout}} "
                            "{{feature}}",
                        ),
                    ),
                    shape="table",
                    width=24,
                ),
                Panel(
                    "Alerts over time",
                    "Firing and pending, by name.",
                    (
                        Query(
                            f"count by (alertname, alertstate) (ALERTS{{{TROUBLE}}})",
                            "{{alertname}} {{alertstate}}",
                        ),
                    ),
                    shape="areas",
                    width=24,
                ),
            ),
        ),
        Row(
            "Budgets",
            (
                Panel(
                    "Error budget left",
                    "Of the objective's whole period; 0 is none.",
                    (
                        Query(
                            "davy:slo_error_budget_remaining:ratio",
                            "{{slo}} {{objective}}",
                        ),
                    ),
                    unit="percentunit",
                    levels=(Level(-1e9, "red"), Level(0.1, "orange"), Level(0.5, "green")),
                    high=1,
                ),
                Panel(
                    "Errors within the hour",
                    "The objective's error ratio over an hour: what a page is about.",
                    (Query("davy:slo_errors:ratio_rate1h", "{{slo}} {{objective}}"),),
                    unit="percentunit",
                    low=0,
                ),
            ),
        ),
        Row(
            "Who watches",
            (
                Panel(
                    "Not scraped",
                    "Predictors, detectors and engines that do not answer Prometheus.",
                    (Query("count by (job) (up == 0) or vector(0)", "{{job}}"),),
                    low=0,
                    levels=(Level(0, "green"), Level(1, "red")),
                ),
                Panel(
                    "Operator that leads",
                    "One of its replicas acts; 0 for long means that no rollout is looked after.",
                    (Query("sum(davy_operator_leading)", "leading"),),
                    low=0,
                ),
            ),
        ),
    ),
)
