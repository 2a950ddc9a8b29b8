"""Ports that live in memory: for tests, and for a dry run that changes no router.

Belongs here: adapters without an outside. Not here: made-up evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from davy.rollout.ports import GateFacts
from davy.rollout.record import Header, LookLine, Record
from davy.rollout.series import Arms
from davy.rollout.vetoes import Veto


@dataclass(slots=True)
class DryRunTraffic:
    """Honours every weight at once, on paper; ``asked`` keeps them in order."""

    weight: int = 0
    asked: list[int] = field(default_factory=list)

    def set_weight(self, arms: Arms, percent: int) -> None:  # noqa: ARG002 (the port's signature)
        """Take note of the weight."""
        self.weight = percent
        self.asked.append(percent)

    def read_weight(self, arms: Arms) -> int | None:  # noqa: ARG002 (the port's signature)
        """Return the weight last asked for."""
        return self.weight

    def not_ready(self, arms: Arms) -> tuple[str, ...]:  # noqa: ARG002 (the port's signature)
        """Return nothing: there are no servers."""
        return ()


@dataclass(slots=True)
class MemoryJournal:
    """A record that ends with the process."""

    header: Header | None = None
    lines: list[LookLine] = field(default_factory=list)

    def read(self) -> Record | None:
        """Return what was written."""
        return None if self.header is None else Record(self.header, tuple(self.lines))

    def begin(self, header: Header) -> None:
        """Keep the header."""
        self.header = header

    def append(self, line: LookLine) -> None:
        """Keep the line."""
        self.lines.append(line)


@dataclass(frozen=True, slots=True)
class StatedPackages:
    """Answers for every version with facts and vetoes that were stated beforehand."""

    stated: GateFacts
    stated_vetoes: tuple[Veto, ...] = ()

    def facts(self, version: str) -> GateFacts:  # noqa: ARG002 (the port's signature)
        """Return the stated facts."""
        return self.stated

    def vetoes(self, version: str, names: Sequence[str]) -> tuple[Veto, ...]:  # noqa: ARG002
        """Return the stated vetoes that were asked for."""
        return tuple(veto for veto in self.stated_vetoes if veto.name in names)
