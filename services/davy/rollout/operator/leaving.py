"""Taking an attempt's canary away, so that one arm is left.

Belongs here: by what it is known which arm leaves: the record, else the status, else the note.
Not here: when that is due (`davy.rollout.operator.reconcile`), its steps on KServe.
"""

from __future__ import annotations

from dataclasses import dataclass

from davy.core.errors import InvalidInputError
from davy.core.logging import get_logger
from davy.rollout.metrics import RolloutMetrics
from davy.rollout.operator.deliveries import Deliveries, name_of
from davy.rollout.operator.notes import note
from davy.rollout.operator.ports import Marks, Records, Resource, Rollouts
from davy.rollout.record import Record
from davy.rollout.series import Arms
from davy.rollout.spec import Candidate
from davy.rollout.state import Phase


@dataclass(frozen=True, slots=True)
class Leaving:
    """Takes canaries away, a step at each call.

    Parameters
    ----------
    rollouts, records, marks
        See `davy.rollout.operator.ports`.
    deliveries : Deliveries
        What moves the InferenceServices.
    metrics : RolloutMetrics
        Those of all rollouts.
    """

    rollouts: Rollouts
    records: Records
    marks: Marks
    deliveries: Deliveries
    metrics: RolloutMetrics

    def record(self, resource: Resource, attempt: int) -> Record | None:
        """Return the record of an attempt, None where there is none."""
        return self.records.journal(resource, attempt).read() if attempt else None

    def settled(self, resource: Resource, attempt: int, record: Record) -> bool:
        """Take the canary of a recorded attempt away; True once one arm is left."""
        if resource.status.settled_attempt >= attempt:
            return True
        spec = record.spec()
        delivery = self.deliveries.of(resource, attempt, spec.candidate, spec.mode)
        settled = delivery.settle(record.header.arms(), promoted=record.phase == Phase.PROMOTED)
        if settled:
            status = resource.status.model_copy(update={"settled_attempt": attempt})
            self.rollouts.write_status(resource, status)
            self.metrics.forget(name_of(resource))
            get_logger("operator").info(
                "canary withdrawn",
                rollout=name_of(resource),
                generation=resource.generation,
                attempt=attempt,
            )
        return settled

    def withdrawn(self, resource: Resource) -> bool:
        """Take away what a deleted rollout has made; True once one arm is left."""
        # A record may go before its rollout, when that is deleted in the foreground.
        recorded = self.records.attempt(resource)
        attempt = max(recorded, resource.status.attempt)
        made = None if recorded else self.marks.made(resource)
        if not attempt and made is None:
            return True
        try:
            record = self.record(resource, attempt)
        except InvalidInputError:
            record = None
        if record is not None:
            done = self.settled(resource, attempt, record)
        else:
            done = self._settled_without_record(resource, attempt)
        if done:
            told = note("Normal", "Withdrawn", "one arm is left", key=f"withdrawn-{attempt}")
            self.rollouts.tell(resource, told)
        return done

    def _settled_without_record(self, resource: Resource, attempt: int) -> bool:
        """Take a canary away whose record cannot be read, by what the status or the note says."""
        status = resource.status
        made = self.marks.made(resource)
        if made is not None and status.settled_attempt < made.attempt:
            # The status may not have been written since; the note is older than the canary.
            attempt, arms = made.attempt, Arms(made.stable, made.canary)
        elif status.versions is not None and status.settled_attempt < attempt:
            arms = status.versions.arms()
        else:
            return True
        # What the spec says by now matters no more: to take it away its version is enough.
        delivery = self.deliveries.of(resource, attempt, Candidate(version=arms.canary))
        return delivery.settle(arms, promoted=False)
