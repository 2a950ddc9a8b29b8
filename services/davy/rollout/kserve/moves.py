"""What a rollout wants of an InferenceService, and the one next move towards it.

Belongs here: the vocabulary that both modes share. Not here: how a mode gets there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from davy.core.errors import ConflictError
from davy.rollout.kserve.mark import Mark

# Condition reasons.
SERVICE_GONE = "InferenceServiceGone"
SERVICE_EDITED = "InferenceServiceEdited"
SERVICE_BUSY = "InferenceServiceBusy"
UNSUPPORTED = "Unsupported"
WEIGHT_NOT_FOLLOWED = "WeightNotFollowed"


@dataclass(frozen=True, slots=True)
class Split:
    """The candidate runs beside the stable arm and has this share, in percent."""

    percent: int


@dataclass(frozen=True, slots=True)
class Settled:
    """One arm is left, the canary when `promoted`; the other lost no request in going."""

    promoted: bool


Wanted = Split | Settled


@dataclass(frozen=True, slots=True)
class Patch:
    """Write ``mark``, then ``body`` as a JSON merge patch of the InferenceService that was seen.

    The mark comes first and names the generation that the patch will make: whoever comes after a
    crash between the two finds out which of them was written.
    """

    mark: Mark
    body: Mapping[str, Any]
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to write until the cluster has followed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Done:
    """It is as wanted, as far as can be read back."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """It cannot become so without a person: ``reason`` is constant, ``message`` for people."""

    reason: str
    message: str
    fix: str = ""


Move = Patch | Wait | Done | Refuse


class RefusedError(ConflictError):
    """A `Refuse` as an error; permanent: nothing of the rollout is written any more.

    Attributes
    ----------
    reason : str
        One of the constants of this module, for a condition.
    """

    def __init__(self, refused: Refuse, *, where: str = "") -> None:
        super().__init__(refused.message, where=where, fix=refused.fix)
        self.reason = refused.reason
