"""How long a request has waited for the event loop before its handling began.

Belongs here: telling it. Not here: whether that is too long (`davy.predictor.admission`).

A server that executes requests in its event loop has a queue that nobody sees: what clients have
sent and the loop has not yet come to. The loop goes in turns: it reads what has arrived, then
begins it. What is read in a turn arrived while the one before it ran.
"""

from __future__ import annotations

import asyncio

from davy.core.clock import Clock


class Turns:
    """Follows the turns of the event loop in which requests are begun.

    Parameters
    ----------
    clock : Clock
        The monotonic time.
    """

    __slots__ = ("_began", "_clock", "_earliest", "_last")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began: float | None = None
        self._earliest = 0.0
        # When the turn before began, where this one follows it without a rest.
        self._last: float | None = None

    def began(self) -> float:
        """Return since when a request that is begun now has been there, at the least."""
        if self._began is None:
            self._began = self._clock.monotonic()
            self._earliest = self._began if self._last is None else self._last
            # Runs in the next turn, before the requests that were read by then.
            asyncio.get_running_loop().call_soon(self._next)
        return self._began

    @property
    def earliest(self) -> float:
        """Since when it has been there at the most."""
        self.began()
        return self._earliest

    def _next(self) -> None:
        self._last, self._began = self._began, None
        asyncio.get_running_loop().call_soon(self._rest)

    def _rest(self) -> None:
        # Nothing was begun in the turn after: what comes now did not have to wait for any.
        if self._began is None:
            self._last = None
