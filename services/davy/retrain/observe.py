"""What Prometheus knows of a model, as the decision wants it.

Belongs here: the queries, and what of their answers counts. Not here: what follows from them.

Only versions that are served count, and of several the worst. No answer is None, never 0.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Protocol

import httpx

from davy.core.errors import UnavailableError
from davy.protocol.prometheus import instant_query
from davy.retrain.decide import Observed
from davy.retrain.policy import Policy

SECONDS = 10.0
_FIX = "See that its address is right and that it is up"


class Metrics(Protocol):
    """Where numbers come from."""

    def value(self, query: str) -> float | None:
        """Return the one value of a query, None where there is none.

        Raises
        ------
        UnavailableError
            It cannot be asked.
        """
        ...


class PrometheusValues:
    """Single values from a Prometheus server.

    Parameters
    ----------
    url : str
        Its base address.
    http : httpx.Client, optional
        Asks.
    """

    def __init__(self, url: str, http: httpx.Client | None = None) -> None:
        self._url = url
        self._http = http or httpx.Client(base_url=url, timeout=SECONDS)

    def value(self, query: str) -> float | None:
        """Return the one value of a query, None where there is none or it is no number."""
        found = instant_query(
            self._http, query, where=self._url, unreachable=_FIX, refused=f"It was: {query}"
        )
        try:
            numbers = [float(series["value"][1]) for series in found]
        except (ValueError, KeyError, TypeError, IndexError):
            raise UnavailableError(
                "Prometheus answers something else than values", where=self._url, fix=_FIX
            ) from None
        if len(numbers) != 1 or not math.isfinite(numbers[0]):
            return None
        return numbers[0]


def observe(policy: Policy, metrics: Metrics, labels_since: timedelta) -> Observed:
    """Ask for everything that the decision wants.

    Parameters
    ----------
    policy : Policy
        Names the model and the measure.
    metrics : Metrics
        Is asked.
    labels_since : timedelta
        As far back as labels count as new.

    Raises
    ------
    UnavailableError
        Metrics cannot be asked.
    """
    of = f'model="{policy.model}"'
    served = "and on (model, version) (max by (model, version) (davy_model_info) == 1)"
    objective = policy.objective
    worst = "min" if objective.at_least is not None else "max"
    measure = f'{{{of},metric="{objective.metric}",segment="{objective.segment}"}}'
    ago = f"{int((policy.drift.since if policy.drift else timedelta()).total_seconds())}s"

    def performance(name: str, offset: str = "") -> float | None:
        return metrics.value(f"{worst}({name}{measure}{offset} {served})")

    broken = f"sum(increase(davy_input_violations_total{{{of}}}[1h]))"
    rows = f"sum(increase(davy_batch_rows_sum{{{of}}}[1h]))"
    drifted = metrics.value(f"sum(davy_drift_active{{{of}}} {served})")
    # Where a rollout is known, the count of those in flight is a number, be it 0.
    named = f'rollout=~"{policy.guards.rollouts}"'
    flying = metrics.value(
        f'count(davy_rollout_weight{{arm="canary",{named}}} > 0 < 100)'
        ' or 0 * count(davy_rollout_weight) or 0 * count(up{job=~".*(operator|engine).*"} == 1)'
    )
    return Observed(
        performance=performance("davy_performance_realised"),
        estimate=performance("davy_performance_estimate"),
        estimate_before=(
            performance("davy_performance_estimate", f" offset {ago}") if policy.drift else None
        ),
        drifted=None if drifted is None else round(drifted),
        labels=metrics.value(
            f"sum(increase(davy_labels_joined_total{{{of}}}"
            f"[{max(60, int(labels_since.total_seconds()))}s]))"
        ),
        violations=metrics.value(f"{broken} / ({broken} + {rows})"),
        rollouts=None if flying is None else round(flying),
    )
