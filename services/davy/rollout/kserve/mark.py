"""What a rollout notes of its writes to an InferenceService.

Belongs here: the note, how it is stored as text. Not here: where it is stored (an adapter).

The note cannot be an annotation of the InferenceService: KServe copies those into the pod template,
so that each change of it would restart the stable pods, or make a new Knative revision.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from davy.core.errors import InvalidInputError
from davy.rollout.series import Shares, shares_at


class Stage(StrEnum):
    """What the InferenceService looks like once the write that the mark announces is made."""

    RUNNING = "Running"
    RESTORING = "Restoring"
    PROMOTED = "Promoted"
    ROLLED_BACK = "RolledBack"


ENDED = frozenset({Stage.PROMOTED, Stage.ROLLED_BACK})


@dataclass(frozen=True, slots=True)
class Mark:
    """The last write of a rollout to its InferenceService.

    Attributes
    ----------
    rollout : str
        Identity of the rollout (namespace, name and uid of its resource).
    uid : str
        Of the InferenceService.
    version : str
        The candidate's.
    generation : int
        ``metadata.generation`` that the InferenceService has once the write is made; one less means
        that it was not made, anything else that somebody else wrote, too.
    stage, percent : Stage, int
        What the write makes of it; `percent` is the canary's weight.
    stable : mapping
        ``spec.predictor`` as it was before the rollout.
    name : str
        ``predictor.name`` of the canary (Standard mode).
    replicas : int
        ``minReplicas`` of the canary (Standard mode).
    previous : int
        Percent before the write that the mark announces (Knative mode).
    least : int
        Pods that the canary has whatever its weight (Standard mode).
    baseline : str
        ``predictor.name`` of the baseline (Standard mode); empty: there is none.
    stable_revision, candidate_revision : str
        Knative mode; the candidate's is empty until it was seen.
    """

    rollout: str
    uid: str
    version: str
    generation: int
    stage: Stage
    percent: int
    stable: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    replicas: int = 0
    stable_revision: str = ""
    candidate_revision: str = ""
    baseline: str = ""
    previous: int = 0
    least: int = 1

    @property
    def names(self) -> tuple[str, ...]:
        """``predictor.name`` of each arm that the rollout has made (Standard mode)."""
        return tuple(filter(None, (self.name, self.baseline)))

    @property
    def shares(self) -> Shares:
        """Share of each arm once the write is made."""
        return shares_at(self.percent, baseline=bool(self.baseline))

    @property
    def ended(self) -> bool:
        """Whether another rollout may take over."""
        return self.stage in ENDED

    def holds(self, service: Mapping[str, Any]) -> bool:
        """Say whether the rollout is at work on an InferenceService that is as it left it.

        One that somebody else has changed since stopped the rollout: whoever mended it may begin
        another one.
        """
        metadata = service["metadata"]
        as_left = self.generation - 1 <= int(metadata.get("generation", 0)) <= self.generation
        return not self.ended and self.uid == metadata.get("uid") and as_left

    def to_text(self) -> str:
        """Return it as JSON; `from_text` reads it back unchanged."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_text(cls, text: str, *, where: str = "") -> Mark:
        """Read what `to_text` wrote; fields of a newer writer are left out.

        Raises
        ------
        InvalidInputError
            It is not that.
        """
        try:
            document = json.loads(text)
            known = {name: document[name] for name in cls.__slots__ if name in document}
            return cls(**{**known, "stage": Stage(known["stage"])})
        except (ValueError, TypeError, KeyError) as error:
            raise InvalidInputError(
                f"the rollout's note on the InferenceService cannot be read ({error})",
                where=where,
                fix="End the canary by hand, then delete the ConfigMap",
            ) from None
