"""What is remembered of versions that could not be read."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from davy.core.clock import ManualClock
from davy.core.errors import IntegrityError, NotFoundError
from davy.detector.failures import FAILURES, Failures


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 1, 5, tzinfo=UTC))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NotFoundError("gone", where="here"), "unknown_version"),
        (IntegrityError("changed", where="here"), "package_untrusted"),
        (ValueError("odd"), "package_unreadable"),
    ],
)
def test_each_error_has_its_reason(clock: ManualClock, error: Exception, reason: str) -> None:
    failure = Failures(clock, 30.0).add("v1", error)
    assert (failure.reason, failure.message) == (reason, str(error))


def test_a_failure_lasts_for_a_while_and_is_told_for_longer(clock: ManualClock) -> None:
    failures = Failures(clock, 30.0)
    failures.add("v1", ValueError("odd"))
    clock.sleep(29)
    assert failures.lasting("v1") is not None
    clock.sleep(1)
    assert failures.lasting("v1") is None
    assert list(failures.known) == ["v1"]
    failures.discard("v1")
    assert not failures.known


def test_the_oldest_are_forgotten(clock: ManualClock) -> None:
    failures = Failures(clock, 30.0)
    for number in range(FAILURES + 1):
        failures.add(str(number), ValueError("odd"))
    failures.add("1", ValueError("again"))
    failures.add("new", ValueError("odd"))
    assert len(failures.known) == FAILURES
    assert "1" in failures.known
    assert "2" not in failures.known
