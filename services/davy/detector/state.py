"""Where the windows of one version stand, and how that is kept over a restart.

Belongs here: the records that the watcher keeps, and their form in the ledger. Not here: what
changes them, and the ledger itself.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from davy.detector.packages import Subject
from davy.detector.windows import Window, Windower
from davy.drift.judge import Streak, Streaks, TestKey
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


def pack(values: Mapping[str, float | int], score: float, categories: Mapping[str, bool]) -> bytes:
    """Return a row as bytes: its features in their order, then the score."""
    return _format(categories).pack(*(values[name] for name in categories), score)


def unpack(
    cells: bytes, categories: Mapping[str, bool]
) -> tuple[dict[str, float | int], float] | None:
    """Return the values and the score that `pack` wrote; None if of other features."""
    form = _format(categories)
    if form.size != len(cells):
        return None
    *values, score = form.unpack(cells)
    return dict(zip(categories, values, strict=True)), score


def write_streaks(streaks: Streaks) -> list[dict[str, Any]]:
    """Return streaks as JSON holds them."""
    return [{"test": list(key), **asdict(streak)} for key, streak in streaks.items()]


def read_streaks(items: Sequence[Mapping[str, Any]] | None) -> dict[TestKey, Streak]:
    """Return the streaks that `write_streaks` wrote."""
    return {
        (item["test"][0], item["test"][1]): Streak(item["drifted"], item["quiet"], item["active"])
        for item in items or ()
    }


def _format(categories: Mapping[str, bool]) -> struct.Struct:
    return struct.Struct("<" + "".join("q" if it else "d" for it in categories.values()) + "d")
