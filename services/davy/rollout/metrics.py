"""What a rollout says of itself to Prometheus: weights, bounds, decisions, whether it is watched.

Belongs here: the metrics, and that each says only what is so now.
Not here: when a look is taken (`davy.rollout.engine`), alerts on them (`monitoring/rules`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge

from davy.rollout.decide import Decision
from davy.rollout.series import Arms
from davy.rollout.state import Phase


class RolloutMetrics:
    """What the rollout says of itself to Prometheus."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.weight = Gauge(
            "davy_rollout_weight",
            "Weight of an arm in percent, as read back from the router",
            ["rollout", "version", "arm"],
            registry=registry,
        )
        self.lower = Gauge(
            "davy_rollout_ratio_lower",
            "Lower confidence bound of canary rate over stable rate, valid at every look",
            ["rollout", "indicator"],
            registry=registry,
        )
        self.upper = Gauge(
            "davy_rollout_ratio_upper",
            "Upper confidence bound of canary rate over stable rate, valid at every look",
            ["rollout", "indicator"],
            registry=registry,
        )
        self.decisions = Counter(
            "davy_rollout_decisions",
            "Decisions, by what was decided",
            ["rollout", "decision"],
            registry=registry,
        )
        self.failed = Gauge(
            "davy_rollout_failed",
            "1: the rollout has failed for good, and its canary has or may have weight",
            ["rollout"],
            registry=registry,
        )
        self.watched = Gauge(
            "davy_rollout_watched_until_timestamp_seconds",
            "Unix time by which another look at the canary's counters is due",
            ["rollout"],
            registry=registry,
        )
        # What is shown of each rollout: gauge, and labels besides its name.
        self._shown: dict[str, set[tuple[Gauge, tuple[str, ...]]]] = {}

    def forget(self, rollout: str, *, serving: str = "") -> None:
        """Say no more of a rollout's arms than that all traffic goes to `serving`.

        A weight that stays after its canary would have alerts leave that version out for as long
        as this process lives. Decisions are counted on: what has happened, has happened.
        """
        before = self._shown.pop(rollout, set())
        if serving:
            self._set(self.weight, 100.0, rollout, serving, "stable")
        self._drop(rollout, before - self._shown.get(rollout, set()))

    def fail(self, rollout: str) -> None:
        """Say that a canary is left with weight, and watched by nobody."""
        before = self._shown.pop(rollout, set())
        self._set(self.failed, 1.0, rollout)
        self._drop(rollout, before - self._shown[rollout])

    @staticmethod
    def _drop(rollout: str, shown: Iterable[tuple[Gauge, tuple[str, ...]]]) -> None:
        for gauge, labels in shown:
            gauge.remove(rollout, *labels)

    def _set(self, gauge: Gauge, value: float, rollout: str, *labels: str) -> None:
        self._shown.setdefault(rollout, set()).add((gauge, labels))
        gauge.labels(rollout, *labels).set(value)

    def show(
        self,
        rollout: str,
        arms: Arms,
        weight: int | None,
        decision: Decision,
        *,
        watched_until: datetime | None = None,
    ) -> None:
        """Take over the numbers of one look; None: nothing was ever counted."""
        before = self._shown.pop(rollout, set())
        if decision.state.phase == Phase.PROMOTED:
            # What took over is no canary any more: alerts that leave canaries out watch it.
            self._set(self.weight, 100.0, rollout, arms.canary, "stable")
        else:
            for arm, share in _shown(arms, weight).items():
                self._set(self.weight, share, rollout, getattr(arms, arm), arm)
        until = 0.0 if watched_until is None else watched_until.timestamp()
        self._set(self.watched, until, rollout)
        for verdict in decision.verdicts:
            self._set(self.lower, verdict.ratio.lower, rollout, verdict.indicator)
            self._set(self.upper, verdict.ratio.upper, rollout, verdict.indicator)
        # Last: what stays is never away, not even for a scrape in between.
        self._drop(rollout, before - self._shown[rollout])
        self.decisions.labels(rollout, decision.action).inc()


def _shown(arms: Arms, weight: int | None) -> dict[str, float]:
    """Return the share of each arm; NaN where the router does not say."""
    shares = arms.shares(weight or 0)._asdict()
    names = [name for name in shares if getattr(arms, name)]
    return {name: math.nan if weight is None else float(shares[name]) for name in names}
