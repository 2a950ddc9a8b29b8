"""How ticks are run and counted."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry

from davy.core.clock import ManualClock
from davy.core.errors import InvalidInputError, UnavailableError
from davy.rollout.operator.handlers import RETRY_SECONDS, Ticks
from davy.rollout.operator.health import OperatorMetrics


@pytest.mark.parametrize(
    ("error", "outcome", "pause"),
    [
        (None, "done", 7.0),
        (UnavailableError("no answer", where="there"), "temporary", RETRY_SECONDS),
        (InvalidInputError("not so", where="there"), "refused", RETRY_SECONDS),
        (RuntimeError("a defect"), "defect", 6 * RETRY_SECONDS),
    ],
)
def test_a_tick_is_counted_and_timed_by_the_clock_that_was_given(
    error: Exception | None, outcome: str, pause: float
) -> None:
    clock, registry = ManualClock(datetime(2017, 1, 2, tzinfo=UTC)), CollectorRegistry()
    ticks = Ticks(OperatorMetrics(registry), clock)

    def step(namespace: str, name: str, uid: str) -> float | None:
        assert (namespace, name, uid) == ("shop", "next-basket", "u")
        clock.sleep(3.0)
        if error is not None:
            raise error
        return 7.0

    assert asyncio.run(ticks.run(step, "shop", "next-basket", "u")) == pause
    values = {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in registry.collect()
        for sample in family.samples
    }
    assert values["davy_operator_tick_seconds_sum", ()] == 3.0
    assert values["davy_operator_ticks_total", (outcome,)] == 1
