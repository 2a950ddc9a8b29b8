"""Which of several operators acts: a Lease, taken and renewed as other controllers do.

Belongs here: the pure choice, and the actor that holds the Lease. Not here: writing it
(`davy.rollout.adapters.kube_lease`).

No two machines' clocks are compared: whoever does not hold the Lease measures by its own clock for
how long it has not changed. The holder stops acting before anybody else may take it: `leading` is
asked right before each write to the API server, of whatever kind
(`davy.rollout.adapters.kubernetes_objects`). A process that is stopped between asking and writing
can still send that one write. A line of the record and a note on an InferenceService name the
version that they are written over, and are refused then; before a weight is asked for once more the
record is looked at, and must be as this process left it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from davy.core.clock import Clock
from davy.core.errors import DavyError
from davy.core.logging import get_logger

# As the controllers of Kubernetes have them, in seconds.
DURATION_SECONDS = 15.0
RENEW_DEADLINE_SECONDS = 10.0
RETRY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Lease:
    """The Lease as it was read; an empty ``holder``: nobody's. ``version`` is for writing it."""

    holder: str
    renewed: str
    transitions: int
    version: str
    duration: float = DURATION_SECONDS


class Leases(Protocol):
    """Where the Lease is kept."""

    def read(self) -> Lease | None:
        """Return it, or None when there is none."""
        ...

    def write(self, holder: str, before: Lease | None) -> Lease:
        """Make `holder` its holder, renewed now; an empty one lets it go.

        Raises
        ------
        TemporaryError
            It is not as it was read any more, or could not be written.
        """
        ...


Move = Literal["take", "renew", "wait"]


def move(lease: Lease | None, me: str, unchanged_seconds: float) -> Move:
    """Return what to do about a Lease that has not changed for so long.

    Examples
    --------
    >>> lease = Lease("a", renewed="", transitions=0, version="1")
    >>> [move(lease, "b", seconds) for seconds in (0.0, 14.9, 15.0)]
    ['wait', 'wait', 'take']
    >>> move(lease, "a", 0.0), move(None, "b", 0.0)
    ('renew', 'take')
    """
    if lease is None or not lease.holder:
        return "take"
    if lease.holder == me:
        return "renew"
    return "take" if unchanged_seconds >= lease.duration else "wait"


class Election:
    """Takes the Lease when it is free, and renews it until it is lost.

    Parameters
    ----------
    leases : Leases
        Where it is kept.
    me : str
        Identity of this process; another one after each start.
    clock : Clock
        Where the time comes from.
    """

    def __init__(self, leases: Leases, me: str, clock: Clock) -> None:
        self.me = me
        self._leases = leases
        self._clock = clock
        self._lease: Lease | None = None
        self._changed = clock.monotonic()
        self._renewed: float | None = None
        # Whether the last step got through to the API server.
        self.reached = False
        self._log = get_logger("operator").bind(identity=me)

    @property
    def leading(self) -> bool:
        """Whether this process may act now."""
        renewed = self._renewed
        return renewed is not None and (self._clock.monotonic() - renewed < RENEW_DEADLINE_SECONDS)

    def step(self) -> bool:
        """Read the Lease, take or renew it where it may be; return whether this process leads."""
        began, self.reached = self._clock.monotonic(), False
        try:
            found = self._leases.read()
            if found != self._lease:
                self._lease, self._changed = found, began
            self.reached = True
            wanted = move(found, self.me, began - self._changed)
            if wanted == "wait":
                self._renewed = None
                return False
            self._lease = self._leases.write(self.me, found)
        except DavyError as error:
            self._log.warning("lease not renewed", error=str(error))
            return self.leading
        if wanted == "take":
            self._log.info("leads")
        self._changed = began
        # From before the write: others count from after it.
        self._renewed = began
        return True

    def lead(
        self,
        stop: threading.Event,
        on_start: Callable[[], None],
        on_step: Callable[[], None] = lambda: None,
    ) -> None:
        """Wait until this process leads, call `on_start`, and return once it does so no more.

        Parameters
        ----------
        stop : threading.Event
            Ends it; a Lease that is held is let go, so that another may take it at once.
        on_start : callable
            Called once.
        on_step : callable, optional
            Called after each step.
        """
        started = False
        while not stop.is_set():
            leads = self.step()
            on_step()
            if leads and not started:
                started = True
                on_start()
            if started and not self.leading:
                self._log.error("leads no more")
                return
            stop.wait(RETRY_SECONDS)
        self.release()

    def release(self) -> None:
        """Let the Lease go."""
        held = self._renewed is not None and self._lease is not None
        self._renewed = None
        if not held:
            return
        try:
            self._leases.write("", self._lease)
        except DavyError as error:
            self._log.warning("lease not let go", error=str(error))
