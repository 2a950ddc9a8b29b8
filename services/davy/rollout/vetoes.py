"""Reasons against a candidate that no count of requests can outweigh.

Belongs here: what a veto is, and those that follow from facts in hand.
Not here: verifying signatures (`davy.packaging`), finding drift (`davy.drift`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from davy.packaging.contract import Compression
from davy.rollout.series import DRIFT, Arms, Series


@dataclass(frozen=True, slots=True)
class Veto:
    """One veto: while active, the canary neither advances nor is promoted."""

    name: str
    active: bool
    message: str


def drift_veto(series: Iterable[Series], arms: Arms) -> Veto:
    """Return whether inputs of the canary drift that those of the stable arm do not share.

    A canary that no detector has looked at is vetoed: what is not known never passes.
    """
    active: dict[str, set[str]] = {}
    for item in series:
        if item.key.metric == DRIFT and item.samples:
            drifting = active.setdefault(item.key.version, set())
            if item.samples[-1].value > 0:
                drifting.add(item.key.detail)
    if arms.canary not in active:
        return Veto("drift", True, f"no detector reports on {arms.canary}")
    own = sorted(active[arms.canary] - active.get(arms.stable, set()))
    if own:
        return Veto("drift", True, f"only the canary's inputs drift: {', '.join(own)}")
    return Veto("drift", False, "no drift that the stable arm does not share")


def compression_veto(compression: Compression) -> Veto:
    """Return whether the package's own evidence puts its chosen form outside its budget."""
    chosen = next((c for c in compression.candidates if c.name == compression.chosen), None)
    if chosen is None:
        return Veto("compression", True, f"'{compression.chosen}' was chosen but never measured")
    if not chosen.eligible:
        return Veto("compression", True, f"'{chosen.name}' is not eligible: {chosen.reason}")
    if chosen.difference is not None and chosen.difference.lower < -compression.budget:
        return Veto(
            "compression",
            True,
            f"'{chosen.name}' may lose {-chosen.difference.lower:.4f}, "
            f"the budget is {compression.budget:.4f}",
        )
    return Veto("compression", False, f"'{chosen.name}' is within its budget")
