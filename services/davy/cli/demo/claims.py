"""What the demo claims, beside what was seen.

Belongs here: one claim, and which ones hold. Not here: how they are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from davy.packaging.contract import Interval


@dataclass(frozen=True, slots=True)
class Claim:
    """One statement that the demo makes, and what was seen of it."""

    name: str
    expected: str
    seen: str
    holds: bool


def all_hold(claims: Sequence[Claim]) -> bool:
    """Say whether there are claims and each of them holds."""
    return bool(claims) and all(claim.holds for claim in claims)


def interval_text(measured: Interval) -> str:
    """Return a measured value with its interval, as everywhere in the demo."""
    return f"{measured.value:.4f} [{measured.lower:.4f}, {measured.upper:.4f}]"
