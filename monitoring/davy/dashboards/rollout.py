"""One rollout: weights, bounds and decisions of the sequential test."""

from __future__ import annotations

from davy.dashboards.page import ROLLOUT, Level, Page, Panel, Query, Row

_OF = '{rollout=~"$rollout"}'

ROLLOUT_PAGE = Page(
    uid="davy-rollout",
    title="Davy / Rollout",
    description="A canary's traffic and what is known of it.",
    choices=(ROLLOUT,),
    span="now-3h",
    rows=(
        Row(
            "Traffic",
            (
                Panel(
                    "Weight by arm",
                    "Percent of the traffic, as read back from the router.",
                    (Query(f"davy_rollout_weight{_OF}", "{{rollout}} {{arm}} {{version}}"),),
                    unit="percent",
                    low=0,
                    high=100,
                ),
                Panel(
                    "Decisions",
                    "How often each was taken.",
                    (
                        Query(
                            f"sum by (rollout, decision) (davy_rollout_decisions_total{_OF})",
                            "{{rollout}} {{decision}}",
                        ),
                    ),
                    shape="table",
                ),
            ),
        ),
        Row(
            "Evidence",
            (
                Panel(
                    "Canary over stable, lower bound",
                    "At least so many times the stable version's rate. Above the spec's margin the "
                    "canary is rolled back.",
                    (
                        Query(
                            f"davy_rollout_ratio_lower{_OF}", "{{rollout}} {{indicator}} at least"
                        ),
                    ),
                    unit="ratio",
                    low=0,
                ),
                Panel(
                    "Canary over stable, upper bound",
                    "At most so many times the stable version's rate. Below the spec's margin for "
                    "every indicator the canary goes on; between the two it waits.",
                    (Query(f"davy_rollout_ratio_upper{_OF}", "{{rollout}} {{indicator}} at most"),),
                    unit="ratio",
                    low=0,
                ),
                Panel(
                    "Seconds until the gate is overdue",
                    "Below 0 nobody looks at the canary: its alerts are no longer held back.",
                    (
                        Query(
                            f"davy_rollout_watched_until_timestamp_seconds{_OF} - time()",
                            "{{rollout}}",
                        ),
                    ),
                    unit="s",
                    levels=(Level(-1e9, "red"), Level(0, "green")),
                ),
                Panel(
                    "Failed for good",
                    "1: the rollout has failed, and its canary has or may have weight.",
                    (Query(f"max by (rollout) (davy_rollout_failed{_OF})", "{{rollout}}"),),
                    low=0,
                    high=1,
                    levels=(Level(0, "green"), Level(1, "red")),
                ),
            ),
        ),
    ),
)
