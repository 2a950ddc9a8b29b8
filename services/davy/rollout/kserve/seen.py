"""What both of KServe's modes look at before the next move.

Belongs here: that. Not here: what one mode looks at besides (`standard`, `knative`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from davy.rollout.kserve.mark import Mark
from davy.rollout.spec import Candidate


@dataclass(frozen=True, slots=True)
class Seen:
    """What was observed in any mode.

    Attributes
    ----------
    rollout : str
        Identity of the rollout that asks.
    candidate : Candidate
        What is to take over.
    service : mapping, optional
        The InferenceService, None when there is none.
    mark : Mark, optional
        What was noted last, by whichever rollout.
    steady_seconds : float
        For how long what the mode waits for has been as it is, as far as this process saw: never
        longer than since the last write.
    baseline : str
        What the counters of the baseline are to say; empty: none is wanted.
    """

    rollout: str
    candidate: Candidate
    service: Mapping[str, Any] | None
    mark: Mark | None = None
    steady_seconds: float = 0.0
    baseline: str = ""
