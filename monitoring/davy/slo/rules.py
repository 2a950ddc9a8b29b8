"""From objectives to Prometheus rules: recorded error ratios, budgets, and alerts on their burn.

Belongs here: queries and the documents around them, as plain objects. Not here: files.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import yaml

from davy.slo.spec import AnyObjective, Availability, Freshness, Latency, Quality, Slo
from davy.slo.windows import BURNS, Burn, text, windows

ALERT = "DavyErrorBudgetBurn"
RUNBOOK = "{{ $externalLabels.runbook_base }}monitoring/runbooks/" + ALERT + ".md"
# The page that shows all budgets and how fast they burn.
DASHBOARD = "{{ $externalLabels.dashboard_base }}d/davy-on-call"
FAILURES = "server_error|timeout|shed"
# How often rules are evaluated: those of alerts, and those that read the whole period.
SOON_SECONDS = 30
SOON, LATER = f"{SOON_SECONDS}s", "5m"
HEADER = "# Written by `davy slo generate` from {source}: change that, not this.\n"


def generate(slo: Slo) -> dict[str, Any]:
    """Return a Prometheus rule file for `slo`: what alerts need soon, and the period's budget.

    Records, each labelled ``slo`` (its name) and ``objective``: ``davy:slo_errors:ratio_rateW``,
    the share of bad events over window W, ``davy:slo_events:increaseW`` their number,
    ``davy:slo_objective:ratio`` the target, and ``davy:slo_error_budget_remaining:ratio`` what is
    left of the period's budget (1: all, below 0: overspent).
    """
    return {
        "groups": [
            {
                "name": f"davy-slo-{slo.name or slo.model}-burn",
                "interval": SOON,
                "rules": [rule for item in slo.objectives for rule in records(slo, item)]
                + [rule for item in slo.objectives for rule in alerts(slo, item)],
            },
            {
                "name": f"davy-slo-{slo.name or slo.model}-budget",
                "interval": LATER,
                "rules": [rule for item in slo.objectives for rule in budget(slo, item)],
            },
        ]
    }


def document(slo: Slo, source: str) -> str:
    """Return the rule file as YAML; `source` is the path that it names as its origin."""
    return HEADER.format(source=source) + yaml.safe_dump(generate(slo), sort_keys=False, width=100)


def prometheus_rule(slo: Slo, *, name: str, labels: dict[str, str]) -> dict[str, Any]:
    """Return the same rules as a PrometheusRule, the Prometheus operator's resource."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": name, "labels": labels},
        "spec": generate(slo),
    }


def records(slo: Slo, objective: AnyObjective) -> list[dict[str, Any]]:
    """Return the recording rules that the alerts of one objective read."""
    labels = _labels(slo, objective)
    rules = []
    if isinstance(objective, Freshness | Quality):
        rules.append(_record("davy:slo_bad:bool", _bad_now(slo, objective), labels))
    return [*rules, *(rule for window in windows() for rule in _over(slo, objective, window))]


def budget(slo: Slo, objective: AnyObjective) -> list[dict[str, Any]]:
    """Return the recording rules of one objective's budget over the period."""
    labels = _labels(slo, objective)
    spent = f"davy:slo_errors:ratio_rate{text(slo.period)}{_matchers(labels)}"
    left = f"1 - {spent} / {_number(1 - objective.target)}"
    return [
        *_over(slo, objective, slo.period),
        _record("davy:slo_objective:ratio", f"vector({_number(objective.target)})", labels),
        _record("davy:slo_error_budget_remaining:ratio", left, labels),
    ]


def _over(slo: Slo, objective: AnyObjective, window: timedelta) -> list[dict[str, Any]]:
    """Return the share of bad events over a window, and how many events there were."""
    labels, name = _labels(slo, objective), text(window)
    return [
        _record(f"davy:slo_errors:ratio_rate{name}", _ratio(slo, objective, window), labels),
        _record(f"davy:slo_events:increase{name}", _events(slo, objective, window), labels),
    ]


def alerts(slo: Slo, objective: AnyObjective) -> list[dict[str, Any]]:
    """Return the alerts of one objective; a burn that cannot be reached has none."""
    reachable = [burn for burn in BURNS if burn.threshold(objective.target, slo.period) < 1]
    return [_alert(slo, objective, burn) for burn in reachable]


def _alert(slo: Slo, objective: AnyObjective, burn: Burn) -> dict[str, Any]:
    matchers = _matchers(_labels(slo, objective))
    threshold = _number(burn.threshold(objective.target, slo.period))
    minimum = objective.minimum_requests or burn.minimum(objective.target, slo.period)
    if isinstance(objective, Freshness | Quality):
        # Half of the window must have been seen: a gauge that has just come says nothing yet.
        minimum = round(burn.long.total_seconds() / SOON_SECONDS / 2)
    long, short = text(burn.long), text(burn.short)
    expression = " and ".join(
        (
            f"davy:slo_errors:ratio_rate{long}{matchers} > {threshold}",
            f"davy:slo_errors:ratio_rate{short}{matchers} > {threshold}",
            f"davy:slo_events:increase{long}{matchers} >= {minimum}",
        )
    )
    return {
        "alert": ALERT,
        "expr": expression,
        "labels": {
            "severity": burn.severity,
            "team": slo.team,
            **_labels(slo, objective),
            "window": long,
        },
        "annotations": {
            "summary": (
                f"{slo.model}: the error budget of {objective.name} burns at least "
                f"{burn.rate(slo.period):.3g} times too fast"
            ),
            "description": (
                f"{_bad(objective)}: {{{{ $value | humanizePercentage }}}} in the last {long}, "
                f"{_number(100 * (1 - objective.target))}% may be over {text(slo.period)}. "
                f"At least {burn.share:.0%} of that budget went in the last {long}."
            ),
            "runbook_url": RUNBOOK,
            "dashboard_url": DASHBOARD,
        },
    }


def _bad(objective: AnyObjective) -> str:
    """Return what a bad event is, for the person who is woken."""
    if isinstance(objective, Availability):
        return "Requests that fail, time out or are shed"
    if isinstance(objective, Latency):
        return f"Requests slower than {objective.seconds:g} s"
    if isinstance(objective, Freshness):
        return f"Time in which no window newer than {text(objective.max_age)} was judged"
    kind = "Estimated" if objective.source == "estimate" else "Realised"
    return f"{kind} {objective.metric} below {objective.floor:g}, share of time"


def _ratio(slo: Slo, objective: AnyObjective, window: timedelta) -> str:
    if isinstance(objective, Freshness | Quality):
        labels = _matchers(_labels(slo, objective))
        return f"avg_over_time(davy:slo_bad:bool{labels}[{text(window)}])"
    if isinstance(objective, Availability):
        bad = _rate(slo, "davy_requests_total", window, f'outcome=~"{FAILURES}"')
        return f"({bad} or 0 * {_total(slo, objective, window)}) / {_total(slo, objective, window)}"
    good = _rate(slo, "davy_request_seconds_bucket", window, f'le="{_bound(objective.seconds)}"')
    return f"1 - {good} / {_total(slo, objective, window)}"


def _events(slo: Slo, objective: AnyObjective, window: timedelta) -> str:
    if isinstance(objective, Freshness | Quality):
        labels = _matchers(_labels(slo, objective))
        return f"count_over_time(davy:slo_bad:bool{labels}[{text(window)}])"
    return f"{_total(slo, objective, window)} * {round(window.total_seconds())}"


def _total(slo: Slo, objective: Availability | Latency, window: timedelta) -> str:
    if isinstance(objective, Availability):
        return _rate(slo, "davy_requests_total", window, 'outcome!="client_error"')
    # The bucket of all: of the same histograms, so that none is counted without its bound.
    every = _rate_by_version(slo, window, "+Inf")
    return f"sum({every} and {_rate_by_version(slo, window, _bound(objective.seconds))})"


def _rate_by_version(slo: Slo, window: timedelta, bound: str) -> str:
    matchers = _chosen(slo, f'le="{bound}"')
    return f"sum by (version) (rate(davy_request_seconds_bucket{{{matchers}}}[{text(window)}]))"


def _rate(slo: Slo, metric: str, window: timedelta, *matchers: str) -> str:
    # Over all versions: a shopper does not care which arm it was.
    return f"sum(rate({metric}{{{_chosen(slo, *matchers)}}}[{text(window)}]))"


def _bad_now(slo: Slo, objective: Freshness | Quality) -> str:
    # What is gone is bad, not unknown, for as long as the longest alert remembers it.
    memory = text(windows()[-1])
    if isinstance(objective, Freshness):
        metric = f"davy_window_judged_timestamp_seconds{{{_chosen(slo)}}}"
        seen = f"max(last_over_time({metric}[{memory}]))"
        return f"time() - {seen} > bool {round(objective.max_age.total_seconds())}"
    metric = f"davy_performance_{objective.source}"
    chosen = _chosen(slo, f'metric="{objective.metric}"', 'segment="all"')
    now = f"min({metric}{{{chosen}}}) < bool {_number(objective.floor)}"
    gone = f"min(last_over_time({metric}{{{chosen}}}[{memory}])) * 0 + 1"
    return f"({now}) or ({gone})"


def _chosen(slo: Slo, *matchers: str) -> str:
    return ",".join(filter(None, (f'model="{slo.model}"', *matchers, slo.selector)))


def _bound(seconds: float) -> str:
    """Return a histogram's bound as prometheus_client writes it."""
    return repr(float(seconds))


def _labels(slo: Slo, objective: AnyObjective) -> dict[str, str]:
    return {"slo": slo.name or slo.model, "objective": objective.name}


def _matchers(labels: dict[str, str]) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "}"


def _record(name: str, expression: str, labels: dict[str, str]) -> dict[str, Any]:
    return {"record": name, "expr": expression, "labels": dict(labels)}


def _number(value: float) -> str:
    """Return a number without the noise of its binary form."""
    return f"{value:.12g}"
