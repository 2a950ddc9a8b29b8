"""Which candidate ships: a pure function of what was measured.

Belongs here: the rules, and their reasons in words. Not here: measuring.

A candidate is eligible only if the lower bound of its quality difference to fp32 is above minus
the budget, overall and in every measured segment, and it is measurably smaller or faster than
fp32. The fp32 model itself always may ship.
"""

from __future__ import annotations

from collections.abc import Sequence

from davy.core.errors import InvalidInputError
from davy.data.task import CompressionBudget
from davy.packaging.contract import Compression, CompressionCandidate

REFERENCE = "fp32"


def choose(budget: CompressionBudget, candidates: Sequence[CompressionCandidate]) -> Compression:
    """Judge every candidate and pick the one that ships.

    Parameters
    ----------
    budget : CompressionBudget
        What quality may be lost, and whether size or latency is preferred.
    candidates : sequence of CompressionCandidate
        As measured, fp32 among them; what they say of their eligibility is not looked at.

    Returns
    -------
    Compression
        The candidates with eligibility and reason, the name of the choice, and why.

    Raises
    ------
    InvalidInputError
        fp32 is not among them, or a name comes twice.
    """
    judged = judge(budget, candidates)
    eligible = [item for item in judged if item.eligible]
    chosen = _preferred(eligible, budget.prefer)
    return Compression(
        budget=budget.budget,
        prefer=budget.prefer,
        candidates=judged,
        chosen=chosen.name,
        why=_why(chosen, judged, budget.prefer),
    )


def judge(
    budget: CompressionBudget, candidates: Sequence[CompressionCandidate]
) -> list[CompressionCandidate]:
    """Return the candidates with eligibility and reason; see `choose`."""
    names = [candidate.name for candidate in candidates]
    if names.count(REFERENCE) != 1 or len(set(names)) != len(names):
        raise InvalidInputError(
            f"needs {REFERENCE} once and no name twice, got {', '.join(names) or 'none'}",
            where="compression candidates",
            fix="Measure fp32 together with the others",
        )
    reference = next(item for item in candidates if item.name == REFERENCE)
    return [_judged(item, reference, budget.budget) for item in candidates]


def _judged(
    candidate: CompressionCandidate, reference: CompressionCandidate, budget: float
) -> CompressionCandidate:
    eligible, reason = _verdict(candidate, reference, budget)
    return candidate.model_copy(update={"eligible": eligible, "reason": reason})


def _verdict(
    candidate: CompressionCandidate, reference: CompressionCandidate, budget: float
) -> tuple[bool, str]:
    if candidate.name == reference.name:
        return True, "what the others are measured against; may always ship"
    if candidate.difference is None:
        return False, f"its quality was not compared with {reference.name}"
    if candidate.difference.lower <= -budget:
        return False, (
            f"may lose more quality than the budget {budget:g}: the difference to "
            f"{reference.name} is {candidate.difference.value:+.4f}, at worst "
            f"{candidate.difference.lower:+.4f}"
        )
    for name, segment in candidate.segments.items():
        if segment.lower <= -budget:
            return False, (
                f"may lose more quality than the budget {budget:g} where {name}: "
                f"{segment.value:+.4f}, at worst {segment.lower:+.4f}"
            )
    gains = _gains(candidate, reference)
    if not gains:
        return False, f"neither smaller nor measurably faster than {reference.name}"
    worst = min([candidate.difference, *candidate.segments.values()], key=lambda item: item.lower)
    return True, (
        f"{' and '.join(gains)} than {reference.name}; quality {candidate.difference.value:+.4f}, "
        f"at worst {candidate.difference.lower:+.4f} overall and {worst.lower:+.4f} in a segment, "
        f"within the budget {budget:g}"
    )


def _gains(candidate: CompressionCandidate, reference: CompressionCandidate) -> list[str]:
    gains = []
    if candidate.bytes < reference.bytes:
        gains.append(f"{1 - candidate.bytes / reference.bytes:.1%} smaller")
    if _faster(candidate, reference):
        ratio = candidate.latency_seconds.value / reference.latency_seconds.value
        gains.append(f"{1 - ratio:.1%} faster")
    return gains


def _faster(first: CompressionCandidate, second: CompressionCandidate) -> bool:
    """Whether the intervals of the latencies are apart, at the same batch size."""
    return (
        first.batch == second.batch and first.latency_seconds.upper < second.latency_seconds.lower
    )


def _preferred(eligible: Sequence[CompressionCandidate], prefer: str) -> CompressionCandidate:
    if prefer == "latency":
        fastest = min(eligible, key=lambda item: item.latency_seconds.value)
        # A latency that cannot be told from the best one is as good: then size decides.
        eligible = [item for item in eligible if not _faster(fastest, item)]
    return min(eligible, key=lambda item: (item.bytes, item.latency_seconds.value))


def _why(chosen: CompressionCandidate, judged: Sequence[CompressionCandidate], prefer: str) -> str:
    best = "smallest" if prefer == "size" else "fastest"
    others = [item for item in judged if item.name not in (chosen.name, REFERENCE)]
    if chosen.name != REFERENCE:
        return f"the {best} of the eligible candidates: {chosen.reason}"
    if not others:
        return "no other candidate was measured"
    if any(item.eligible for item in others):
        return f"{REFERENCE} is itself the {best} of the eligible candidates"
    return "no candidate is eligible: " + "; ".join(
        f"{item.name}: {item.reason}" for item in others
    )
