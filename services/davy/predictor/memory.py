"""What a burst of large requests leaves in the process goes back to the system.

Belongs here: when memory is given back, and how. Not here: what takes it.

Two keep it. The C library holds what was freed between blocks that are still in use, for the next
burst, in a pool for each thread. And objects that hold each other wait for the collector, which
hardly ever runs in a process that serves. Both cost milliseconds to clear, so it is looked at now
and then, and done only after the process has grown.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

EVERY_SECONDS = 5.0
# Above what it was at least, before anything is done about it.
GROWN_BYTES = 32 * 2**20
# Less than that was not worth the while: what has grown is in use.
LITTLE_BYTES = 8 * 2**20
MOST_LOOKS = 32
STATM = Path("/proc/self/statm")


@dataclass(frozen=True, slots=True)
class Kept:
    """What is known of the process's memory.

    Attributes
    ----------
    least : int
        Bytes that it had at least.
    pause : int
        Looks from one time that memory was given back to the next; more where that was in vain.
    looks : int
        Looks since the last time.
    """

    least: int
    pause: int = 1
    looks: int = 0

    def seen(self, now: int) -> Kept:
        """Return this with one look more."""
        return Kept(min(self.least, now), self.pause, self.looks + 1)

    @property
    def due(self) -> bool:
        """Whether it is time again."""
        return self.looks >= self.pause

    def given_back(self, before: int, after: int) -> Kept:
        """Return this after memory was given back."""
        in_vain = before - after < LITTLE_BYTES
        pause = min(2 * self.pause, MOST_LOOKS) if in_vain else 1
        return Kept(min(self.least, after), pause)


class Memory:
    """Looks at the process's memory, and gives back what it does not use.

    Parameters
    ----------
    resident : callable
        Bytes of the process that are in memory.
    give_back : callable
        Gives back what it can.
    every : float
        Seconds between looks.
    """

    def __init__(
        self,
        resident: Callable[[], int],
        give_back: Callable[[], None],
        *,
        every: float = EVERY_SECONDS,
    ) -> None:
        self._resident = resident
        self._give_back = give_back
        self._every = every
        self._kept: Kept | None = None
        self._next: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look, inside a running event loop."""
        self.look()
        self._next = asyncio.get_running_loop().call_later(self._every, self.start)

    def close(self) -> None:
        """Look no more."""
        if self._next is not None:
            self._next.cancel()

    def look(self) -> None:
        """Give memory back if the process has grown and it is time again."""
        now = self._resident()
        kept = (self._kept or Kept(now)).seen(now)
        if kept.due and now - kept.least > GROWN_BYTES:
            self._give_back()
            kept = kept.given_back(now, self._resident())
        self._kept = kept


def resident_bytes() -> int:
    """Return how much of this process is in memory; 0 where the system does not say."""
    try:
        pages = int(STATM.read_bytes().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def give_back() -> None:
    """Collect what nobody refers to, and return free memory where the C library can."""
    gc.collect()
    # glibc's; others keep little.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
