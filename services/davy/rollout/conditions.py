"""Conditions of a ModelRollout: their types, their constant reasons, when they last changed.

Belongs here: what a condition is, and how a new set follows the one before.
Not here: which conditions hold (`davy.rollout.status`).

Reasons are constants, so that a person or a program can wait for one; the message is for people.
Those of a decision are in `davy.rollout.decide` and `davy.rollout.counters`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

# Types.
ACCEPTED = "Accepted"
PROGRESSING = "Progressing"
SUCCEEDED = "Succeeded"
RECONCILED = "Reconciled"

# Reasons beside those of a decision.
REASON_ACCEPTED = "Accepted"
REASON_RECONCILED = "Reconciled"
REASON_PROMOTED = "Promoted"
REASON_ROLLED_BACK = "RolledBack"
REASON_NOT_DECIDED = "NotDecided"
REASON_ANOTHER_ROLLOUT = "AnotherRollout"
REASON_SPEC_INVALID = "SpecInvalid"
REASON_NOTHING_TO_DO = "CandidateServesAlready"
REASON_NOT_FOUND = "NotFound"
REASON_CHANGED = "ChangedBySomebodyElse"
REASON_INTEGRITY = "IntegrityError"
REASON_REFUSED = "Refused"
REASON_CONFIGURATION = "ConfigurationError"
REASON_TEMPORARY = "TemporaryError"

Truth = Literal["True", "False", "Unknown"]


class Condition(BaseModel):
    """One condition, as Kubernetes has them."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore"
    )

    type: str = Field(description="What this condition is about.", max_length=316)
    status: Truth = Field(description="True, False or Unknown.")
    reason: str = Field(
        description="A constant word, to be waited for.", min_length=1, max_length=1024
    )
    message: str = Field(default="", description="The same for people.", max_length=32768)
    last_transition_time: datetime = Field(description="When the status last changed.")
    observed_generation: int | None = Field(
        default=None, description="Generation of the spec that this was found under.", ge=0
    )


def follow(
    before: Sequence[Condition], now_true: Iterable[Condition], *, now: datetime
) -> tuple[Condition, ...]:
    """Return the new conditions, each with the time since which it has its status.

    Parameters
    ----------
    before : sequence of Condition
        Those that the resource has.
    now_true : iterable of Condition
        What holds now; their times are not read.
    now : datetime
        Time of those whose status is another than before, in whole seconds.
    """
    since = {item.type: item for item in before}
    stamp = now.replace(microsecond=0)
    kept = []
    for item in now_true:
        was = since.get(item.type)
        time = was.last_transition_time if was and was.status == item.status else stamp
        kept.append(item.model_copy(update={"last_transition_time": time}))
    return tuple(kept)
