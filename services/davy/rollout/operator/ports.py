"""What the operator needs from outside, besides the ports of the engine.

Belongs here: the protocols and the resource that passes through them. Not here: any implementation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from davy.core.errors import InvalidInputError
from davy.core.files import parse_model
from davy.rollout.ports import Journal, Metrics, Packages, Traffic, Workload
from davy.rollout.spec import Candidate, RolloutSpec
from davy.rollout.status import ModelRolloutStatus


@dataclass(frozen=True, slots=True)
class Resource:
    """A ModelRollout as the API server has it; ``spec`` has not been checked."""

    namespace: str
    name: str
    uid: str
    generation: int
    created: datetime
    spec: Mapping[str, Any]
    status: ModelRolloutStatus = field(default_factory=ModelRolloutStatus)
    deleting: bool = False
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def service(self) -> str:
        """Name of its InferenceService; empty when the spec names none."""
        reference = self.spec.get("inferenceServiceRef")
        return str(reference.get("name", "")) if isinstance(reference, Mapping) else ""

    @property
    def where(self) -> str:
        """Return its place for messages."""
        return f"modelrollout {self.namespace}/{self.name}"

    def checked_spec(self) -> RolloutSpec:
        """Return the spec, checked.

        Raises
        ------
        InvalidInputError
            It does not fit, or names no InferenceService; names the field.
        """
        spec = parse_model(dict(self.spec), RolloutSpec, where=self.where)
        if spec.inference_service_ref is None:
            raise InvalidInputError(
                "names no InferenceService", where=self.where, fix="Set inferenceServiceRef.name"
            )
        return spec


@dataclass(frozen=True, slots=True)
class Note:
    """Something for people to read beside the resource (an Event).

    ``key`` says which one it is: the same key is never shown twice.
    """

    key: str
    kind: Literal["Normal", "Warning"]
    reason: str
    message: str


class Rollouts(Protocol):
    """The ModelRollout resources."""

    def read(self, namespace: str, name: str) -> Resource | None:
        """Return one, or None when there is none."""
        ...

    def listed(self, namespace: str) -> Sequence[Resource]:
        """Return all of a namespace."""
        ...

    def write_status(self, resource: Resource, status: ModelRolloutStatus) -> None:
        """Make `status` the status of that very resource, not of a later one of the same name."""
        ...

    def tell(self, resource: Resource, note: Note) -> None:
        """Show a note; one that was shown already is left as it is."""
        ...


class Pods(Protocol):
    """The pods behind an InferenceService."""

    def replace(self, resource: Resource, pod: str) -> bool:
        """Have another pod in the place of this one; False: it is none of the InferenceService."""
        ...


class Delivery(Traffic, Workload, Protocol):
    """Traffic and arms of one InferenceService."""


@dataclass(frozen=True, slots=True)
class Made:
    """The attempt that made the canary of an InferenceService, and its versions."""

    attempt: int
    stable: str
    canary: str


class Marks(Protocol):
    """What rollouts have noted on InferenceServices, beside their records."""

    def made(self, resource: Resource) -> Made | None:
        """Return what a rollout has made last and not promoted; None: nothing."""
        ...


class SharedJournal(Journal, Protocol):
    """A journal that another operator may write to as well."""

    def check(self) -> None:
        """See that nobody has written since it was read.

        Raises
        ------
        TemporaryError
            Somebody has.
        """
        ...


class Records(Protocol):
    """Decision records of a rollout; it has one for each attempt."""

    def attempt(self, resource: Resource) -> int:
        """Return the number of the last attempt that has a record; 0 when none has."""
        ...

    def journal(self, resource: Resource, attempt: int) -> SharedJournal:
        """Return where the record of an attempt is kept."""
        ...

    def uri(self, resource: Resource, attempt: int) -> str:
        """Return where people find it."""
        ...


class Places(Protocol):
    """Makes the ports of one rollout."""

    def delivery(
        self, resource: Resource, identity: str, candidate: Candidate, traffic: str
    ) -> Delivery:
        """Return what moves the InferenceService.

        Raises
        ------
        PermanentError
            The InferenceService is gone, or the installed KServe cannot do what is asked.
        """
        ...

    def metrics(self, resource: Resource, spec: RolloutSpec) -> Metrics:
        """Return where its counters come from."""
        ...

    def packages(self, candidate: Candidate) -> Packages:
        """Return where the candidate's package is."""
        ...
