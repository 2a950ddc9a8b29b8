"""How a rollout begins, or goes on after a restart or another spec.

Belongs here: the claim, which record it is, the engine over its ports.
Not here: ticking (`davy.rollout.operator.reconcile`), deciding (`davy.rollout.decide`).

Another spec begins anew. The bounds hold for one spec that was fixed before the evidence; one that
was changed after looking at it has no such promise. So the canary gives its weight back, and a new
record begins. Only ``paused`` and where Prometheus is may change meanwhile.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from davy.core.clock import Clock
from davy.rollout import conditions
from davy.rollout.adapters.annotation_orders import AnnotationOrders
from davy.rollout.engine import Engine
from davy.rollout.metrics import RolloutMetrics
from davy.rollout.operator.claims import rival
from davy.rollout.operator.deliveries import Deliveries, name_of
from davy.rollout.operator.leaving import Leaving
from davy.rollout.operator.notes import cause, last_note
from davy.rollout.operator.pod_actions import PodActions
from davy.rollout.operator.ports import (
    Delivery,
    Places,
    Records,
    Resource,
    Rollouts,
    SharedJournal,
)
from davy.rollout.operator.recorded import RecordedPackages, recorded_facts
from davy.rollout.operator.trouble import RefusedRolloutError
from davy.rollout.pods import PodAction
from davy.rollout.ports import Packages
from davy.rollout.record import Record
from davy.rollout.spec import RolloutSpec
from davy.rollout.state import Phase
from davy.rollout.status import Standing, status_of


@dataclass(slots=True)
class Running:
    """What is kept of a rollout between two ticks; all of it can be made again."""

    generation: int
    attempt: int
    engine: Engine
    delivery: Delivery
    orders: AnnotationOrders
    journal: SharedJournal
    said: tuple[str, str] | None = None
    settled: bool = False


@dataclass(frozen=True, slots=True)
class Starting:
    """Begins rollouts, and lets those go on that have begun.

    Parameters
    ----------
    rollouts, records, places
        See `davy.rollout.operator.ports`.
    deliveries : Deliveries
        What moves the InferenceServices.
    leaving : Leaving
        Takes the canary of an earlier spec away.
    pod_actions : PodActions
        Does again what a kill may have left undone.
    clock : Clock
        Where the time comes from.
    metrics : RolloutMetrics
        Those of all rollouts.
    """

    rollouts: Rollouts
    records: Records
    places: Places
    deliveries: Deliveries
    leaving: Leaving
    pod_actions: PodActions
    clock: Clock
    metrics: RolloutMetrics
    _claiming: threading.Lock = field(default_factory=threading.Lock)

    def running(self, resource: Resource) -> Running | None:
        """Return what goes on, or begins; None while an earlier canary goes.

        Raises
        ------
        RefusedRolloutError
            Another rollout holds the InferenceService, or there is nothing to do.
        """
        spec = resource.checked_spec()
        self._claim(resource)
        attempt = self.records.attempt(resource)
        record = self.leaving.record(resource, attempt)
        if record is not None and not self._goes_on(spec, record):
            if not self.leaving.settled(resource, attempt, record):
                return None
            attempt, record = attempt + 1, None
        attempt = max(attempt, 1)
        delivery = self.deliveries.of(resource, attempt, spec.candidate, spec.mode)
        stable = record.header.stable if record is not None else delivery.serving()
        if stable == spec.candidate.version:
            raise RefusedRolloutError(
                conditions.REASON_NOTHING_TO_DO,
                f"version '{stable}' serves already",
                where=resource.where,
                fix="Name another candidate",
            )
        # A promoted rollout whose next steps were edited has ended with the spec of its record.
        ended = record is not None and record.phase == Phase.PROMOTED
        orders = AnnotationOrders(resource.annotations, resource.uid)
        journal = self.records.journal(resource, attempt)
        packages: Packages = self.places.packages(spec.candidate)
        if record is not None:
            packages = RecordedPackages(record, packages)
        engine = Engine(
            record.spec() if record is not None and ended else spec,
            name=name_of(resource),
            stable=stable,
            traffic=delivery,
            metrics=self.places.metrics(resource, spec),
            journal=journal,
            packages=packages,
            clock=self.clock,
            metrics_of_rollout=self.metrics,
            generation=resource.generation,
            orders=orders,
        )
        running = Running(resource.generation, attempt, engine, delivery, orders, journal)
        running.settled = resource.status.settled_attempt >= attempt
        if record is not None:
            running.said = cause(record)
            # Told again in case it was not: what was told already stays as it is.
            told = last_note(attempt, record)
            if told is not None:
                self.rollouts.tell(resource, told)
            asked = record.looks[-1].decision.pod_action if record.looks else None
            if asked is not None:
                action = PodAction(asked.kind, asked.pod)
                self.pod_actions.take(resource, attempt, action, delivery, engine.arms)
        return running

    def _claim(self, resource: Resource) -> None:
        if resource.status.claimed:
            return
        with self._claiming:
            first = rival(resource, self.rollouts.listed(resource.namespace))
            if first is not None:
                raise RefusedRolloutError(
                    conditions.REASON_ANOTHER_ROLLOUT,
                    f"the InferenceService '{resource.service}' is held by rollout '{first.name}'",
                    where=resource.where,
                    fix="Wait until it has ended, then edit this one or create it again",
                )
            claim = Standing(generation=resource.generation)
            status = status_of(claim, resource.status, self.clock.now())
            self.rollouts.write_status(resource, status)

    def _goes_on(self, spec: RolloutSpec, record: Record) -> bool:
        """Whether a record is one of this spec."""
        header = record.header
        if header.canary != spec.candidate.version:
            return False
        if record.phase == Phase.PROMOTED:
            return True
        wanted = spec.with_indicators(list(recorded_facts(record).indicators))
        return header.settings_hash == wanted.settings_hash()
