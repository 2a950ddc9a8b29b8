"""What the engine needs from outside: four small protocols; and what the operator needs besides.

Belongs here: the protocols and what passes through them. Not here: any implementation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from davy.packaging.contract import GateDefault
from davy.rollout.record import Header, LookLine, Record
from davy.rollout.series import Arms, Series
from davy.rollout.vetoes import Veto


class Traffic(Protocol):
    """The router that splits requests between the arms."""

    def set_weight(self, arms: Arms, percent: int) -> None:
        """Ask for the canary's share, in percent; the stable arm has the rest.

        Asking for what is there already changes nothing. Returns once it is honoured, or after a
        bounded wait when it is not: `read_weight` tells.
        """
        ...

    def read_weight(self, arms: Arms) -> int | None:
        """Return the canary's share in percent as the router has it; None when it does not say."""
        ...

    def not_ready(self, arms: Arms) -> tuple[str, ...]:
        """Return the versions that have no ready server."""
        ...


class Workload(Protocol):
    """What runs the arms, where a rollout has to make and remove them itself (KServe).

    An adapter of KServe is a `Traffic` and this. There ``set_weight(arms, 0)`` makes the canary
    when it is not there yet, without a request to it.
    """

    def serving(self) -> str:
        """Return the version that is the stable arm now.

        Raises
        ------
        NotFoundError
            The InferenceService is gone.
        InvalidInputError
            It does not say its version.
        """
        ...

    def settle(self, arms: Arms, *, promoted: bool) -> bool:
        """Go one step towards one arm only: the canary when `promoted`, else the stable one.

        Called again and again, by an operator that may have been killed in between, until it
        returns True: the leaving arm is gone and lost no request. Never removes an arm that still
        has weight.

        Raises
        ------
        ConflictError
            Somebody else changed the InferenceService since: nothing was written.
        """
        ...

    def second_pod(self, arms: Arms) -> bool:
        """Have a second pod of the canary; False: not to be had without taking from the others.

        Asking again changes nothing.
        """
        ...


class Metrics(Protocol):
    """Where raw cumulative counters come from."""

    def series(self, arms: Arms, since: float | None) -> Sequence[Series]:
        """Return the raw samples of both arms from `since` (Unix seconds) on, or recent ones.

        Raises
        ------
        UnavailableError
            No answer, or none that can be used.
        """
        ...


class Mirror(Protocol):
    """Whoever sends real requests to a canary that serves nobody. Both may be said again."""

    def begin(self, arms: Arms) -> None:
        """Have requests of the stable arm sent to the canary, too.

        Raises
        ------
        UnavailableError
            It cannot be told.
        """
        ...

    def end(self, arms: Arms) -> None:
        """Have no more sent."""
        ...


class NoMirror:
    """Tells nobody: whoever sends requests was told by other means, or nobody does."""

    def begin(self, arms: Arms) -> None:
        """Do nothing."""

    def end(self, arms: Arms) -> None:
        """Do nothing."""


class Journal(Protocol):
    """Where the decision record is kept; one rollout holds it at a time."""

    def read(self) -> Record | None:
        """Return what has been written, or None when nothing was."""
        ...

    def begin(self, header: Header) -> None:
        """Write the header, on the disk when this returns."""
        ...

    def append(self, line: LookLine) -> None:
        """Write one look, on the disk when this returns."""
        ...


@dataclass(frozen=True, slots=True)
class GateFacts:
    """What the candidate's package brings to the gate."""

    latency_objective_seconds: float
    indicators: tuple[GateDefault, ...] = ()


class Packages(Protocol):
    """The model packages."""

    def facts(self, version: str) -> GateFacts:
        """Return what a version's contract asks of the gate.

        Raises
        ------
        NotFoundError
            There is no such package.
        """
        ...

    def vetoes(self, version: str, names: Sequence[str]) -> tuple[Veto, ...]:
        """Return those of the named vetoes that a package can answer for."""
        ...
