"""What `davy retrain` tells Prometheus.

Belongs here: the metric, and as what a decision counts. Not here: deciding.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from davy.retrain.decide import COOLED_DOWN, Decision

OUTCOMES = ("none", "cooling", "blocked", "trained", "failed", "canary_failed", "unavailable")


class RetrainMetrics:
    """Decisions by what came of them.

    Parameters
    ----------
    registry : CollectorRegistry
        Where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._triggers = Counter(
            "davy_retrain_triggers",
            "Decisions to train again or not, by what came of each.",
            ["model", "outcome"],
            registry=registry,
        )

    def begin(self, model: str) -> None:
        """Show each outcome as 0, so that the first of its kind is seen to come."""
        for outcome in OUTCOMES:
            self._triggers.labels(model, outcome)

    def decided(self, model: str, decision: Decision | None, outcome: str) -> None:
        """Count a decision; none was made where metrics could not be asked."""
        if outcome == "blocked" and decision is not None and _only_cools(decision):
            outcome = "cooling"
        self._triggers.labels(model, outcome).inc()


def _only_cools(decision: Decision) -> bool:
    held = [check.name for check in decision.guards if check.state != "yes"]
    return held == [COOLED_DOWN]
