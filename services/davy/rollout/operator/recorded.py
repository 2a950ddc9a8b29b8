"""A candidate whose facts are in its record already.

Belongs here: going on without the package. Not here: reading a package (adapters).

What the gate needs of a package was written into the record when it began. An operator that starts
while the package store is away goes on watching a canary that has traffic; what only the package
can answer, the vetoes, holds it meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from davy.packaging.contract import GateDefault
from davy.rollout.ports import GateFacts, Packages
from davy.rollout.record import Record
from davy.rollout.vetoes import Veto


def recorded_facts(record: Record) -> GateFacts:
    """Return the facts by which a record was begun."""
    indicators = tuple(
        GateDefault(name=item.name, ratio=item.ratio, allowance=item.allowance)
        for item in record.spec().analysis.indicators
    )
    return GateFacts(record.header.latency_objective_seconds, indicators)


@dataclass(frozen=True, slots=True)
class RecordedPackages:
    """Facts from the record, vetoes from the package."""

    record: Record
    packages: Packages

    def facts(self, version: str) -> GateFacts:  # noqa: ARG002 (the port's signature)
        """Return what was recorded."""
        return recorded_facts(self.record)

    def vetoes(self, version: str, names: Sequence[str]) -> tuple[Veto, ...]:
        """Return what the package says now."""
        return self.packages.vetoes(version, names)
