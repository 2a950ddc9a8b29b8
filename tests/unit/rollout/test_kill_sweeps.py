"""At how many places programs were killed stands at the end of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from tests.conftest import pytest_terminal_summary
from tests.fixtures.kill_sweeps import CRASH_POINTS, summary


@dataclass
class StandInReport:
    nodeid: str
    user_properties: list[tuple[str, Any]] = field(default_factory=list)


def test_sweeps_are_added_up_by_file() -> None:
    reports = [
        StandInReport("tests/b.py::test_x[1]", [(CRASH_POINTS, 1000)]),
        StandInReport("tests/b.py::test_x[2]", [("other", "text"), (CRASH_POINTS, 34)]),
        StandInReport("tests/a.py::test_y", [(CRASH_POINTS, 6)]),
        StandInReport("tests/c.py::test_z"),
    ]
    assert list(summary(reports)) == [
        "tests/a.py: killed at 6 places (scenarios: 1)",
        "tests/b.py: killed at 1,034 places (scenarios: 2)",
        "killed at 1,040 places in all, the same end each time",
    ]
    assert list(summary(reports[3:])) == []


class StandInReporter:
    """What pytest writes the end of a run with."""

    def __init__(self, passed: list[StandInReport]) -> None:
        self.passed, self.written = passed, list[str]()

    def getreports(self, name: str) -> list[StandInReport]:
        return self.passed if name == "passed" else []

    def section(self, title: str) -> None:
        self.written.append(title)

    def write_line(self, line: str) -> None:
        self.written.append(line)


def test_a_run_ends_with_the_count_where_there_was_one() -> None:
    swept = StandInReporter([StandInReport("a.py::x", [(CRASH_POINTS, 3)])])
    pytest_terminal_summary(cast(pytest.TerminalReporter, swept))
    assert swept.written == [
        "kill sweeps",
        "a.py: killed at 3 places (scenarios: 1)",
        "killed at 3 places in all, the same end each time",
    ]
    none = StandInReporter([StandInReport("a.py::x")])
    pytest_terminal_summary(cast(pytest.TerminalReporter, none))
    assert none.written == []
