"""Names that have a meaning to more than one part.

Belongs here: such names. Not here: what is done with them.
"""

from __future__ import annotations

# The output whose values are counted by the predictor, watched by the detector and explained.
SCORE = "score"

# A setting of the predictor, and what its counters add to the version: a fresh copy of the stable
# version that serves beside a canary is an arm of its own.
ARM_VARIABLE = "DAVY_PREDICTOR_ARM"
BASELINE = "baseline"


def baseline_version(stable: str) -> str:
    """Return by which version the counters of a baseline are told from the stable arm's.

    >>> baseline_version("2026.08.01-abcd1234")
    '2026.08.01-abcd1234+baseline'
    """
    return f"{stable}+{BASELINE}"
