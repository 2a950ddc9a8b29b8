"""What KServe's two modes share: one move after another on an InferenceService.

Belongs here: the loop of seeing, asking the plan, writing. Not here: any plan
(`davy.rollout.kserve`), what a mode looks at (`kserve_knative`, `kserve_standard`).
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from davy.core.clock import Clock
from davy.core.errors import InvalidInputError, NotFoundError, UnavailableError
from davy.core.logging import get_logger
from davy.rollout.adapters.kserve_marks import ConfigMapMarks
from davy.rollout.adapters.kubernetes_objects import (
    KubernetesObjects,
    RefusedByServerError,
    Resource,
    StaleError,
)
from davy.rollout.kserve import service as isvc
from davy.rollout.kserve.mark import Mark
from davy.rollout.kserve.moves import (
    UNSUPPORTED,
    Done,
    Move,
    Patch,
    Refuse,
    RefusedError,
    Settled,
    Split,
    Wait,
    Wanted,
)
from davy.rollout.series import Arms
from davy.rollout.spec import Candidate

INFERENCE_SERVICES = Resource("serving.kserve.io", "v1beta1", "inferenceservices")
POLL_SECONDS = 0.25
# So many writes in a row that found the object changed are no accident.
STALE_WRITES = 5

Seen = TypeVar("Seen")


class Steady:
    """For how long something has been as it is, by this process's own clock.

    After a restart it begins anew: what was waited for is waited for again.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._state: Hashable = None
        self._since = clock.monotonic()

    def seconds(self, state: Hashable) -> float:
        """Return the seconds since the state was first seen without a change in between."""
        now = self._clock.monotonic()
        if state != self._state:
            self._state, self._since = state, now
        return now - self._since


@dataclass(frozen=True, slots=True)
class Plan(Generic[Seen]):
    """The pure functions of one mode, on what that mode looks at."""

    next_step: Callable[[Seen, Wanted], Move]
    read_weight: Callable[[Seen], int | None]
    # Of the stable arm, the canary, and the baseline where there may be one.
    not_ready: Callable[[Seen], tuple[bool, ...]]


class KServeService(ABC, Generic[Seen]):
    """An InferenceService as the `Traffic` and the `Workload` of one rollout.

    Parameters
    ----------
    objects : KubernetesObjects
        The API server.
    namespace, service : str
        Of the InferenceService.
    rollout : str
        Identity of the rollout, the same after a restart, another one for another rollout.
    candidate : Candidate
        What is to take over.
    clock : Clock
        Where the time comes from.
    patience : float
        Seconds that `set_weight` waits for the cluster to follow.
    """

    plan: Plan[Seen]

    def __init__(
        self,
        objects: KubernetesObjects,
        *,
        namespace: str,
        service: str,
        rollout: str,
        candidate: Candidate,
        clock: Clock,
        patience: float = 10.0,
    ) -> None:
        self.objects = objects
        self.namespace = namespace
        self.service = service
        self.rollout = rollout
        self.candidate = candidate
        self.steady = Steady(clock)
        self._marks = ConfigMapMarks(objects, namespace, service)
        self._clock = clock
        self._patience = patience
        self._log = get_logger("rollout").bind(rollout=rollout, candidate=candidate.version)

    @property
    def where(self) -> str:
        """How the InferenceService is called in messages."""
        return f"InferenceService {self.namespace}/{self.service}"

    def set_weight(self, arms: Arms, percent: int) -> None:
        """Ask for the canary's share; makes the canary when there is none. See `Traffic`.

        Raises
        ------
        RefusedError
            It was edited, deleted or taken by somebody else meanwhile, or KServe cannot do it.
        UnavailableError
            The API server does not answer.
        """
        if not 0 <= percent <= 100:
            raise InvalidInputError(f"a weight is 0 to 100 percent, not {percent}")
        self._check(arms)
        self._go(arms, Split(percent), self._patience)

    def read_weight(self, arms: Arms) -> int | None:
        """Return the canary's share as it is routed; None when that is not said. See `Traffic`."""
        self._check(arms)
        return self.plan.read_weight(self._seen(self._read(), self._marks.read(), arms))

    def not_ready(self, arms: Arms) -> tuple[str, ...]:
        """Return the versions that have no ready server. See `Traffic`."""
        self._check(arms)
        silent = self.plan.not_ready(self._seen(self._read(), self._marks.read(), arms))
        return tuple(itertools.compress(arms.versions, silent))

    def serving(self) -> str:
        """Return the version that is this rollout's stable arm. See `Workload`."""
        service = self._read()
        if service is None:
            raise NotFoundError("there is no such InferenceService", where=self.where)
        mark = self._marks.read()
        if mark is not None and mark.rollout == self.rollout and mark.uid == isvc.uid(service):
            service = {"spec": {"predictor": mark.stable}}
        version = isvc.serving_version(service)
        if version is None:
            raise InvalidInputError(
                "it does not say which version its predictor serves",
                where=self.where,
                fix=f"Annotate spec.predictor.annotations with {isvc.VERSION_ANNOTATION}",
            )
        return version

    def settle(self, arms: Arms, *, promoted: bool) -> bool:
        """Go towards one arm only, as far as can be gone now. See `Workload`.

        Raises
        ------
        RefusedError
            The InferenceService was changed by somebody else.
        UnavailableError
            The API server does not answer.
        """
        self._check(arms)
        return isinstance(self._go(arms, Settled(promoted=promoted), 0.0), Done)

    def second_pod(self, arms: Arms) -> bool:
        """Say that there is none to be had, unless a mode has one to give. See `Workload`."""
        self._check(arms)
        return False

    @abstractmethod
    def _seen(self, service: dict[str, Any] | None, mark: Mark | None, arms: Arms) -> Seen:
        """Return what the plan looks at."""

    def _go(self, arms: Arms, wanted: Wanted, patience: float) -> Done | Wait:
        until = self._clock.monotonic() + patience
        stale = 0
        while True:
            service = self._read()
            move = self.plan.next_step(self._seen(service, self._marks.read(), arms), wanted)
            if isinstance(move, Done):
                return move
            if isinstance(move, Refuse):
                raise RefusedError(move, where=self.where)
            if isinstance(move, Wait):
                if self._clock.monotonic() >= until:
                    return move
                self._clock.sleep(POLL_SECONDS)
                continue
            try:
                self._write(service, move)
            except StaleError as error:
                # Whoever wrote in between: the next look at it tells what that means.
                stale += 1
                if stale >= STALE_WRITES:
                    raise UnavailableError(
                        "it changes faster than it can be written", where=self.where
                    ) from error

    def _write(self, service: dict[str, Any] | None, patch: Patch) -> None:
        self._log.info("kserve write", reason=patch.reason, service=self.service)
        self._marks.write(patch.mark)
        if not patch.body or service is None:
            return
        metadata = {"resourceVersion": service["metadata"]["resourceVersion"]}
        body = {**patch.body, "metadata": metadata}
        try:
            self.objects.merge_patch(INFERENCE_SERVICES, self.namespace, self.service, body)
        except RefusedByServerError as error:
            refused = Refuse(UNSUPPORTED, error.what, "See what the server says, start anew")
            raise RefusedError(refused, where=self.where) from error

    def _read(self) -> dict[str, Any] | None:
        return self.objects.get(INFERENCE_SERVICES, self.namespace, self.service)

    def _check(self, arms: Arms) -> None:
        if arms.canary != self.candidate.version:
            raise InvalidInputError(
                f"the candidate is {self.candidate.version}, not {arms.canary}", where=self.where
            )
