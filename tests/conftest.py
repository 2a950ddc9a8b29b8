"""What every test gets: the process-wide set-up of logging as it was before the test."""

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """A command sets logging up for its process, and the tests of a worker share theirs."""
    yield
    structlog.reset_defaults()
