"""The ``status`` of a ModelRollout: its schema, and how it follows from where a rollout stands.

Belongs here: the models, a pure function from a standing to a status.
Not here: writing it to the API server, deciding, when a condition last changed
(`davy.rollout.conditions`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from davy.rollout import conditions as names
from davy.rollout.conditions import Condition, Truth, follow
from davy.rollout.decide import PAUSED
from davy.rollout.series import Arms
from davy.rollout.state import FINAL, Phase, State
from davy.rollout.verdict import Evidence, Outcome, Verdict

StatusPhase = Literal[
    "Pending",
    "Progressing",
    "Paused",
    "Promoting",
    "RollingBack",
    "Promoted",
    "RolledBack",
    "Inconclusive",
    "Failed",
]
FAILED: StatusPhase = "Failed"
# Nothing more happens in these until the spec changes.
ENDED: frozenset[str] = frozenset({"Promoted", "RolledBack", FAILED})
# The API server keeps an object below 1 MiB; people read the first lines of a message.
LONGEST_MESSAGE = 2000


class _Part(BaseModel):
    # A newer operator's fields are not ours to judge: ignored here, kept by the API server.
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore"
    )


class WeightsStatus(_Part):
    """Shares of the traffic in percent, as read back from the router."""

    stable: int = Field(ge=0, le=100, description="Share of the stable arm.")
    canary: int = Field(ge=0, le=100, description="Share of the canary.")
    baseline: int | None = Field(
        default=None, ge=0, le=100, description="Share of the baseline, where there is one."
    )

    @classmethod
    def of(cls, arms: Arms, weight: int) -> WeightsStatus:
        """Return the shares of all arms where the canary has `weight` percent."""
        shares = arms.shares(weight)
        baseline = shares.baseline if arms.baseline else None
        return cls(stable=shares.stable, canary=shares.canary, baseline=baseline)


class VersionsStatus(_Part):
    """The arms by their package version."""

    stable: str = Field(description="Version that served when this began.")
    canary: str = Field(description="Version that is to take over.")
    baseline: str | None = Field(
        default=None,
        description="Version that the counters of the stable version's fresh copy carry.",
    )

    def arms(self) -> Arms:
        """Return the versions as they are compared."""
        return Arms(self.stable, self.canary, self.baseline or "")


class VerdictStatus(_Part):
    """One indicator's verdict on all evidence so far."""

    indicator: str = Field(description="Name of the indicator.")
    outcome: Outcome = Field(description="pass, fail or inconclusive.")
    ratio_lower: float = Field(description="Lower bound of canary rate over stable rate.")
    ratio_upper: float | None = Field(
        default=None, description="Upper bound of canary rate over stable rate; absent: none."
    )
    rate_lower: float = Field(description="Lower bound of the canary's own rate.")
    rate_upper: float = Field(description="Upper bound of the canary's own rate.")
    reason: str = Field(description="Why, in words.")


class EvidenceStatus(_Part):
    """What has been counted for one indicator; the record holds every interval."""

    indicator: str = Field(description="Name of the indicator.")
    stable_requests: int = Field(ge=0, description="Requests of the stable arm.")
    stable_events: int = Field(ge=0, description="Those of them that were events.")
    canary_requests: int = Field(ge=0, description="Requests of the canary.")
    canary_events: int = Field(ge=0, description="Those of them that were events.")


class ModelRolloutStatus(_Part):
    """Where a rollout stands; written by the operator alone."""

    phase: StatusPhase = Field(default="Pending", description="Where it stands, in one word.")
    observed_generation: int = Field(default=0, ge=0, description="Generation this is about.")
    attempt: int = Field(
        default=0, ge=0, description="Counts the records: evidence begins anew with another spec."
    )
    settled_attempt: int = Field(
        default=0, ge=0, description="Last attempt of which one arm alone is left."
    )
    step: int = Field(default=0, ge=0, description="Step of the spec, from 1; 0 before the first.")
    looks: int = Field(default=0, ge=0, description="Looks that were taken.")
    last_look_time: datetime | None = Field(default=None, description="When the last was taken.")
    weights: WeightsStatus | None = Field(default=None)
    versions: VersionsStatus | None = Field(default=None)
    verdicts: tuple[VerdictStatus, ...] = Field(
        default=(), description="Verdict of each indicator."
    )
    evidence: tuple[EvidenceStatus, ...] = Field(default=(), description="Counts in all.")
    record_uri: str | None = Field(
        default=None, alias="recordURI", description="Where the decision record is kept."
    )
    conditions: tuple[Condition, ...] = Field(default=(), description="What holds, and since when.")

    def condition(self, kind: str) -> Condition | None:
        """Return the condition of a type, if there is one."""
        return next((item for item in self.conditions if item.type == kind), None)

    @property
    def claimed(self) -> bool:
        """Whether this rollout holds its InferenceService."""
        accepted = self.condition(names.ACCEPTED)
        return accepted is not None and accepted.status == "True" and self.phase not in ENDED

    def document(self) -> dict[str, Any]:
        """Return it as it is written."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def read_status(document: object) -> ModelRolloutStatus:
    """Return the status that a resource has; an empty one where there is none that can be read.

    The status is written anew from the record, so a damaged one is no reason to stop.
    """
    try:
        return ModelRolloutStatus.model_validate(document or {})
    except ValidationError:
        return ModelRolloutStatus()


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a rollout does not go on: for good, or until it is tried again."""

    reason: str
    message: str
    permanent: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """All that a status follows from.

    ``said`` are reason and message of the last decision; while the rollout ends and after it, those
    of the decision that it ends by. ``verdicts`` are None when nothing was looked at since the
    operator started. ``weight`` is the canary's percent as read back; None: the router did not say.
    ``settled`` says that one arm alone is left after the end.
    """

    generation: int
    attempt: int = 0
    arms: Arms | None = None
    state: State | None = None
    said: tuple[str, str] | None = None
    verdicts: tuple[Verdict, ...] | None = None
    weight: int | None = None
    looked: datetime | None = None
    settled: bool = False
    record_uri: str | None = None
    trouble: Trouble | None = None

    def with_trouble(self, trouble: Trouble) -> Standing:
        """Return the same with why it does not go on."""
        return replace(self, trouble=trouble)


def status_of(standing: Standing, before: ModelRolloutStatus, now: datetime) -> ModelRolloutStatus:
    """Return the status of a standing.

    Parameters
    ----------
    standing : Standing
        Where the rollout stands.
    before : ModelRolloutStatus
        What the resource says: kept where the standing knows nothing better.
    now : datetime
        Time for the conditions that change.
    """
    state = standing.state
    update: dict[str, Any] = {
        "phase": _phase(standing, before),
        "observed_generation": standing.generation,
        "conditions": follow(before.conditions, _conditions(standing, before), now=now),
    }
    if standing.arms is not None:
        arms = standing.arms
        update["versions"] = VersionsStatus(
            stable=arms.stable, canary=arms.canary, baseline=arms.baseline or None
        )
    if standing.attempt:
        update |= {"attempt": standing.attempt, "record_uri": standing.record_uri}
    if standing.settled:
        update["settled_attempt"] = standing.attempt
    if state is not None:
        update |= {
            "step": state.step + 1,
            "looks": state.looks,
            "evidence": tuple(_evidence(name, item) for name, item in state.evidence.items()),
        }
        weights = None
        if standing.weight is not None and standing.arms is not None:
            weights = WeightsStatus.of(standing.arms, standing.weight)
        update["weights"] = weights
    if standing.verdicts is not None:
        update["verdicts"] = tuple(_verdict(item) for item in standing.verdicts)
    elif standing.attempt != before.attempt:
        update["verdicts"] = ()
    if standing.looked is not None:
        update["last_look_time"] = standing.looked.replace(microsecond=0)
    return before.model_copy(update=update)


def _phase(standing: Standing, before: ModelRolloutStatus) -> StatusPhase:
    if standing.trouble is not None and standing.trouble.permanent:
        return FAILED
    if standing.state is None:
        return "Pending" if before.phase in ENDED else before.phase
    phase = standing.state.phase
    if phase in FINAL and not standing.settled:
        return "Promoting" if phase == Phase.PROMOTED else "RollingBack"
    if standing.said is not None and standing.said[0] == PAUSED:
        return "Paused"
    return _PHASES[phase]


_PHASES: dict[Phase, StatusPhase] = {
    Phase.PENDING: "Pending",
    Phase.PROGRESSING: "Progressing",
    Phase.PROMOTING: "Promoting",
    Phase.ROLLING_BACK: "RollingBack",
    Phase.PROMOTED: "Promoted",
    Phase.ROLLED_BACK: "RolledBack",
    Phase.INCONCLUSIVE: "Inconclusive",
}


def _conditions(standing: Standing, before: ModelRolloutStatus) -> Iterator[Condition]:
    def condition(kind: str, status: Truth, reason: str, message: str) -> Condition:
        return Condition(
            type=kind,
            status=status,
            reason=reason,
            message=message[:LONGEST_MESSAGE],
            last_transition_time=datetime.fromtimestamp(0, tz=UTC),  # `follow` sets it
            observed_generation=standing.generation,
        )

    trouble, state = standing.trouble, standing.state
    failed = trouble if trouble is not None and trouble.permanent else None
    if failed is not None and state is None and not before.claimed:
        yield condition(names.ACCEPTED, "False", failed.reason, failed.message)
    else:
        yield condition(names.ACCEPTED, "True", names.REASON_ACCEPTED, "holds the InferenceService")
    reason, message = standing.said or (names.REASON_NOT_DECIDED, "not looked at yet")
    if failed is not None:
        yield condition(names.PROGRESSING, "False", failed.reason, failed.message)
        yield condition(names.SUCCEEDED, "False", failed.reason, failed.message)
    elif state is not None and state.phase in FINAL and standing.settled:
        promoted = state.phase == Phase.PROMOTED
        end = names.REASON_PROMOTED if promoted else names.REASON_ROLLED_BACK
        arms = standing.arms
        serving = (arms.canary if promoted else arms.stable) if arms else ""
        yield condition(names.PROGRESSING, "False", end, f"all traffic goes to {serving}")
        cause = f"{reason}: {message}"
        yield condition(names.SUCCEEDED, "True" if promoted else "False", end, cause)
    else:
        yield condition(names.PROGRESSING, "True", reason, message)
        yield condition(names.SUCCEEDED, "Unknown", names.REASON_NOT_DECIDED, "not decided yet")
    if trouble is not None:
        yield condition(names.RECONCILED, "False", trouble.reason, trouble.message)
    else:
        yield condition(names.RECONCILED, "True", names.REASON_RECONCILED, "")


def _verdict(verdict: Verdict) -> VerdictStatus:
    upper = verdict.ratio.upper
    return VerdictStatus(
        indicator=verdict.indicator,
        outcome=verdict.outcome,
        ratio_lower=verdict.ratio.lower,
        ratio_upper=upper if math.isfinite(upper) else None,
        rate_lower=verdict.rate.lower,
        rate_upper=verdict.rate.upper,
        reason=verdict.reason,
    )


def _evidence(name: str, evidence: Evidence) -> EvidenceStatus:
    totals = evidence.totals
    return EvidenceStatus(
        indicator=name,
        stable_requests=totals.n_stable,
        stable_events=totals.k_stable,
        canary_requests=totals.n_canary,
        canary_events=totals.k_canary,
    )
