"""Versions whose package could not be read: why, and until when none tries again.

Belongs here: remembering them, boundedly. Not here: reading packages (`davy.detector.packages`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from davy.core.clock import Clock
from davy.core.errors import IntegrityError, NotFoundError

# Unknown versions come from the network: remember only so many of them.
FAILURES = 256

Reason = Literal["unknown_version", "package_untrusted", "package_unreadable"]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a version cannot be used, and when (monotonic) it is tried again."""

    reason: Reason
    message: str
    until: float


class Failures:
    """The last versions that could not be read.

    Parameters
    ----------
    clock : Clock
        The monotonic time.
    seconds : float
        How long none tries again.
    """

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._known: OrderedDict[str, Failure] = OrderedDict()

    @property
    def known(self) -> Mapping[str, Failure]:
        """All that are remembered, also those that may be tried again."""
        return self._known

    def lasting(self, version: str) -> Failure | None:
        """Return why a version is not to be tried now, None when it is."""
        failure = self._known.get(version)
        return failure if failure is not None and self._clock.monotonic() < failure.until else None

    def add(self, version: str, error: Exception) -> Failure:
        """Remember what reading a version raised."""
        reason: Reason = "package_unreadable"
        if isinstance(error, NotFoundError):
            reason = "unknown_version"
        elif isinstance(error, IntegrityError):
            reason = "package_untrusted"
        failure = Failure(reason, str(error), self._clock.monotonic() + self._seconds)
        self.discard(version)
        self._known[version] = failure
        while len(self._known) > FAILURES:
            self._known.popitem(last=False)
        return failure

    def discard(self, version: str) -> None:
        """Forget a version: it was read."""
        self._known.pop(version, None)
