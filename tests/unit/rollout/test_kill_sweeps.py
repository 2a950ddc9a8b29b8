"""At how many places programs were killed stands at the end of a run, with several workers too."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fixtures.kill_sweeps import CRASH_POINTS, summary

ROOT = Path(__file__).parents[3]


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


def test_a_run_with_workers_ends_with_the_count() -> None:
    file = "tests/unit/rollout/test_kserve_crashes.py"
    chosen = f"{file}::test_a_crash_at_any_write_changes_nothing"
    command = [sys.executable, "-m", "pytest", "-q", "-n", "1", "-p", "no:cacheprovider", chosen]
    more = ["-k", "began and Standard and None", "-p", "no:cov"]
    ran = subprocess.run(
        [*command, *more], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert ran.returncode == 0, ran.stdout
    lines = ran.stdout.splitlines()
    (told,) = (line for line in lines if line.startswith(f"{file}: killed at "))
    assert told.endswith(" places (scenarios: 1)")
    assert int(told.split()[3]) > 0
