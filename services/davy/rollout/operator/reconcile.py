"""One tick of one ModelRollout: read it, look once or settle, write its status.

Belongs here: the order of side effects on a cluster, what begins anew.
Not here: deciding (`davy.rollout.decide`), when a tick is due (`davy.rollout.operator.handlers`),
how a rollout begins or goes on (`davy.rollout.operator.starting`), how a canary is taken away
(`davy.rollout.operator.leaving`).

Every tick reads the resource anew, so nothing hangs on what a watch has delivered. What was done is
in the record (`davy.rollout.engine`), which arm is left in the cluster itself; the status is made
from both, and an operator that was killed anywhere goes on from them. The order of writes:

1. status: Accepted, which claims the InferenceService;
2. the record's header, with the stable version;
3. for each look its line in the record, then what it asks of the router, a note, the status;
4. after the end: the leaving arm goes, in the steps of `davy.rollout.ports.Workload.settle`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from structlog.typing import FilteringBoundLogger

from davy.core.clock import Clock
from davy.core.errors import DavyError
from davy.core.logging import get_logger
from davy.rollout.engine import SETTLING
from davy.rollout.kserve.moves import SERVICE_EDITED, SERVICE_GONE
from davy.rollout.metrics import RolloutMetrics
from davy.rollout.operator.deliveries import Deliveries, name_of
from davy.rollout.operator.failures import (
    arms_of,
    unwatched,
    weight_left,
    weight_left_without_record,
)
from davy.rollout.operator.leaving import Leaving
from davy.rollout.operator.notes import end_note, look_note, note
from davy.rollout.operator.pod_actions import PodActions
from davy.rollout.operator.ports import Marks, Note, Places, Pods, Records, Resource, Rollouts
from davy.rollout.operator.starting import Running, Starting
from davy.rollout.operator.trouble import trouble, wait_seconds
from davy.rollout.operator.turns import Turns
from davy.rollout.state import FINAL, Phase
from davy.rollout.status import ENDED, Standing, Trouble, WeightsStatus, status_of

# A change of weight, or of arms, is looked at more often than the evidence.
SETTLING_SECONDS = 1.0
# Why the canary of a deleted rollout is left: it is no longer as the rollout made it.
LET_GO = frozenset({SERVICE_GONE, SERVICE_EDITED})


@dataclass
class Reconciler:
    """Carries ModelRollouts out, one tick at a time; ticks of different ones may run at once.

    Parameters
    ----------
    rollouts, records, places, pods, marks
        See `davy.rollout.operator.ports`.
    clock : Clock
        Where the time comes from.
    metrics : RolloutMetrics
        Those of all rollouts.
    """

    rollouts: Rollouts
    records: Records
    places: Places
    pods: Pods
    marks: Marks
    clock: Clock
    metrics: RolloutMetrics
    _running: dict[str, Running] = field(default_factory=dict)
    _failures: dict[str, int] = field(default_factory=dict)
    _turns: Turns = field(default_factory=Turns)

    def __post_init__(self) -> None:
        self._deliveries = Deliveries(self.places)
        self._leaving = Leaving(
            self.rollouts, self.records, self.marks, self._deliveries, self.metrics
        )
        self._pod_actions = PodActions(self.rollouts, self.pods)
        self._starting = Starting(
            self.rollouts,
            self.records,
            self.places,
            self._deliveries,
            self._leaving,
            self._pod_actions,
            self.clock,
            self.metrics,
        )

    def tick(self, namespace: str, name: str, uid: str) -> float | None:
        """Go one step; return the seconds until the next, None: nothing until it changes.

        Raises
        ------
        TemporaryError
            Not even its status could be read or written.
        """
        with self._only(uid):
            resource = self.rollouts.read(namespace, name)
            if resource is None or resource.uid != uid or resource.deleting:
                self._forget(uid)
                return None
            status = resource.status
            if status.phase in ENDED and status.observed_generation == resource.generation:
                if unwatched(status):
                    # Said again by an operator that was started after it failed.
                    self.metrics.fail(name_of(resource))
                self._forget(uid)
                return None
            try:
                pause = self._go_on(resource)
            except DavyError as error:
                return self._troubled(resource, error)
            self._failures.pop(uid, None)
            return pause

    def withdraw(self, namespace: str, name: str, uid: str) -> float | None:
        """Take the canary of a deleted rollout away; return None once it may go.

        Where somebody else has changed or deleted the InferenceService it is left as they made it.
        Anything else that refuses, such as an admission webhook during a change freeze, may pass: a
        canary with weight that nobody watches is worse than a resource that stays.
        """
        with self._only(uid):
            resource = self.rollouts.read(namespace, name)
            if resource is None or resource.uid != uid:
                return None
            try:
                return self._withdraw(resource)
            except DavyError as error:
                return self._not_withdrawn(resource, error)

    def _not_withdrawn(self, resource: Resource, error: DavyError) -> float | None:
        found = trouble(error)
        if found.reason in LET_GO:
            self._log(resource).warning("left as it is", error=str(error))
            left = note("Warning", "LeftAsItIs", str(error), key=f"left-{resource.generation}")
            self.rollouts.tell(resource, left)
            self.metrics.forget(name_of(resource))
            self._forget(resource.uid)
            return None
        self._log(resource).warning("not withdrawn yet", error=str(error))
        pause = self._later(resource.uid, error)
        key = f"not-withdrawn-{found.reason}".lower()
        self.rollouts.tell(resource, note("Warning", "NotWithdrawn", str(error), key=key))
        return pause

    @contextmanager
    def _only(self, uid: str) -> Iterator[None]:
        """One tick of a rollout at a time; one that failed in any way leaves nothing behind."""
        with self._turns.of(uid):
            try:
                yield
            except BaseException:
                self._running.pop(uid, None)
                raise

    def _forget(self, uid: str) -> None:
        self._running.pop(uid, None)
        self._deliveries.forget(uid)
        self._failures.pop(uid, None)

    def _go_on(self, resource: Resource) -> float | None:
        running = self._running.get(resource.uid)
        if running is None or running.generation != resource.generation:
            running = self._starting.running(resource)
            if running is None:
                return SETTLING_SECONDS
            self._running[resource.uid] = running
        running.orders.take(resource.annotations)
        engine = running.engine
        if engine.state.phase not in FINAL:
            standing = self._look(resource, running)
        else:
            standing = self._standing(resource, running)
        if engine.state.phase in FINAL:
            promoted = engine.state.phase == Phase.PROMOTED
            if not running.settled:
                running.settled = running.delivery.settle(engine.arms, promoted=promoted)
            weight = 100 if promoted else 0
            standing = replace(standing, settled=running.settled, weight=weight)
        if running.settled:
            # Before the status: once that says the end, nothing is done any more.
            serving = engine.arms.canary if engine.state.weight else engine.arms.stable
            promoted = engine.state.phase == Phase.PROMOTED
            self._tell(resource, end_note(running.attempt, promoted=promoted, version=serving))
        status = status_of(standing, resource.status, self.clock.now())
        self.rollouts.write_status(resource, status)
        if running.settled:
            self.metrics.forget(name_of(resource), serving=serving)
            self._forget(resource.uid)
            return None
        if engine.state.phase in SETTLING | FINAL:
            return SETTLING_SECONDS
        return engine.pause()

    def _look(self, resource: Resource, running: Running) -> Standing:
        engine, ending = running.engine, running.engine.state.phase in SETTLING
        if engine.state.looks:
            # An operator that was stopped for a while may ask for what another has moved on from.
            running.journal.check()
            # Changes nothing where it is as asked. Where somebody else has changed or deleted the
            # InferenceService, or the routes never follow, this says so, at every look.
            running.delivery.set_weight(engine.arms, engine.state.weight)
        decision = engine.look()
        # What it ends by stays readable while it ends.
        if not ending or running.said is None:
            running.said = (decision.reason, decision.message)
        look = engine.state.looks
        if decision.action != "hold":
            self._log(resource).info(
                decision.action, reason=decision.reason, message=decision.message, look=look
            )
        self._tell(
            resource,
            look_note(running.attempt, look, decision.action, decision.reason, decision.message),
        )
        if decision.pod_action is not None:
            self._pod_actions.take(
                resource, running.attempt, decision.pod_action, running.delivery, engine.arms
            )
        return replace(
            self._standing(resource, running),
            verdicts=decision.verdicts,
            weight=engine.observed.weight if engine.observed is not None else None,
            looked=self.clock.now(),
        )

    def _tell(self, resource: Resource, told: Note | None) -> None:
        if told is not None:
            self.rollouts.tell(resource, told)

    def _standing(self, resource: Resource, running: Running) -> Standing:
        return Standing(
            generation=resource.generation,
            attempt=running.attempt,
            arms=running.engine.arms,
            state=running.engine.state,
            said=running.said,
            record_uri=self.records.uri(resource, running.attempt),
        )

    def _withdraw(self, resource: Resource) -> float | None:
        if not self._leaving.withdrawn(resource):
            return SETTLING_SECONDS
        self.metrics.forget(name_of(resource))
        self._forget(resource.uid)
        return None

    def _troubled(self, resource: Resource, error: DavyError) -> float | None:
        running = self._running.pop(resource.uid, None)
        found = trouble(error)
        self._log(resource).warning("does not go on", reason=found.reason, error=str(error))
        # Read again: a claim may have been written since.
        resource = self.rollouts.read(resource.namespace, resource.name) or resource
        standing = Standing(generation=resource.generation)
        if running is not None:
            standing = self._standing(resource, running)
        before = resource.status
        if found.permanent:
            key = f"failed-{resource.generation}-{found.reason}".lower()
            self.rollouts.tell(resource, note("Warning", found.reason, found.message, key=key))
        status = status_of(standing.with_trouble(found), before, self.clock.now())
        if found.permanent and status.attempt:
            status = status.model_copy(update={"weights": self._left(resource, running, found)})
        if status != before:
            self.rollouts.write_status(resource, status)
        if found.permanent:
            if unwatched(status):
                self.metrics.fail(name_of(resource))
            else:
                self.metrics.forget(name_of(resource))
            self._forget(resource.uid)
            return None
        return self._later(resource.uid, error)

    def _left(
        self, resource: Resource, running: Running | None, found: Trouble
    ) -> WeightsStatus | None:
        """Take the weight back where that may be, and return what is left of it."""
        if running is None:
            arms = arms_of(resource.status)
            weight = weight_left_without_record(self._deliveries, resource, found.reason)
        else:
            arms, state = running.engine.arms, running.engine.state
            weight = weight_left(running.delivery, arms, state, found.reason)
        return None if weight is None else WeightsStatus.of(arms, weight)

    def _later(self, uid: str, error: DavyError) -> float:
        self._failures[uid] = self._failures.get(uid, 0) + 1
        return wait_seconds(error, self._failures[uid])

    def _log(self, resource: Resource) -> FilteringBoundLogger:
        bound: FilteringBoundLogger = get_logger("operator").bind(
            rollout=name_of(resource), generation=resource.generation
        )
        return bound
