"""What becomes of an answer's Date; the rest is tried on a real API server (tests/cluster)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from davy.cli.doctor.cluster_facts import clock_finding
from davy.cli.doctor.finding import Level

START = datetime(2026, 1, 1, 12, 0, 10, 500_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("date", "took", "level"),
    [
        ("Thu, 01 Jan 2026 12:00:10 GMT", 0.1, Level.OK),
        ("Thu, 01 Jan 2026 13:00:10 +0100", 0.1, Level.OK),
        ("Thu, 01 Jan 2026 12:00:14 GMT", 0.1, Level.WARN),
        # The answer took so long that nothing is certain.
        ("Thu, 01 Jan 2026 12:00:14 GMT", 8.0, Level.OK),
        ("Thu, 01 Jan 2026 12:00:50 GMT", 0.1, Level.FAIL),
        (None, 0.1, Level.SKIP),
        ("yesterday", 0.1, Level.SKIP),
    ],
)
def test_a_clock_is_judged_by_a_date_where_there_is_one(
    date: str | None, took: float, level: Level
) -> None:
    assert clock_finding(date, START, took, "somebody").level == level
