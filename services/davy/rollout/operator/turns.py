"""One at a time for each rollout, and nothing kept of those that nobody waits for.

Belongs here: the locks. Not here: what is done under them (`davy.rollout.operator.reconcile`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """Locks by key; one is made for who comes first, and dropped after who leaves last.

    Dropping it any earlier would let one in beside another that still waits for the old lock.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, tuple[threading.Lock, int]] = {}

    def __len__(self) -> int:
        """Return for how many keys somebody is at work or waits."""
        return len(self._locks)

    @contextmanager
    def of(self, key: str) -> Iterator[None]:
        """Wait for the turn of a key, and hold it."""
        with self._guard:
            lock, users = self._locks.get(key, (threading.Lock(), 0))
            self._locks[key] = (lock, users + 1)
        try:
            with lock:
                yield
        finally:
            with self._guard:
                lock, users = self._locks.pop(key)
                if users > 1:
                    self._locks[key] = (lock, users - 1)
