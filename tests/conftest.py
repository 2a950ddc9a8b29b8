"""What every test gets: the process-wide set-up of logging as it was before the test.

And what a person reads at the end of a run: at how many places programs were killed.
"""

from collections.abc import Iterator

import pytest
import structlog
from tests.fixtures.kill_sweeps import summary


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """A command sets logging up for its process, and the tests of a worker share theirs."""
    yield
    structlog.reset_defaults()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the sweeps that passed; a worker's own output is not shown."""
    lines = list(summary(terminalreporter.getreports("passed")))
    if lines:
        terminalreporter.section("kill sweeps")
        for line in lines:
            terminalreporter.write_line(line)
