"""Where the windows of one version stand.

Belongs here: the records that the watcher keeps. Not here: what changes them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from davy.detector.packages import Subject
from davy.detector.windows import Window, Windower
from davy.drift.judge import Streaks, TestKey
from davy.drift.result import DriftResult


@dataclass(frozen=True, slots=True)
class Tested:
    """A window and its verdict; ``active`` are the features active after it."""

    window: Window
    result: DriftResult
    active: tuple[TestKey, ...]
    seconds: float


@dataclass(slots=True)
class Watched:
    """One version and where its windows stand."""

    subject: Subject
    windower: Windower
    heard: float
    streaks: Streaks = field(default_factory=dict)
    history: deque[Tested] = field(default_factory=deque)

    @property
    def active(self) -> tuple[TestKey, ...]:
        """Features that are in drift now."""
        return tuple(sorted(key for key, streak in self.streaks.items() if streak.active))


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a version is not watched, and when (monotonic) it is tried again."""

    reason: str
    message: str
    until: float
