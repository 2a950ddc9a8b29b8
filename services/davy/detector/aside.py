"""Work beside the server: one thread, and a queue before it that is bounded twice.

Belongs here: the thread, how many wait and how many bytes they hold. Not here: what is done with
one (`davy.detector.replay`, `davy.detector.shadow`).
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Aside(Generic[Item]):
    """Does work in a thread of its own; whoever brings it never waits.

    Parameters
    ----------
    name : str
        Of the thread.
    work : callable
        Does one item; it raises nothing.
    items, size : int
        How many may wait, and how many bytes they may hold.
    between : callable, optional
        Called before each item, and while there is none every `wake` seconds.
    wake : float, optional
        See `between`.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Item], None],
        *,
        items: int,
        size: int,
        between: Callable[[], None] | None = None,
        wake: float | None = None,
    ) -> None:
        self._name = name
        self._do = work
        self._between = between
        self._wake = wake
        self._queue: queue.Queue[tuple[Item, int] | None] = queue.Queue(items)
        self._size = size
        self._lock = threading.Lock()
        self._held = 0
        self._thread: threading.Thread | None = None
        self.closing = False

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self._queue.qsize()

    def start(self) -> None:
        """Begin."""
        # A daemon: work that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def offer(self, item: Item, size: int) -> bool:
        """Take an item of so many bytes; False where there is no room, or no more time."""
        with self._lock:
            if self.closing or self._held + size > self._size:
                return False
            try:
                self._queue.put_nowait((item, size))
            except queue.Full:
                return False
            self._held += size
        return True

    def close(self, seconds: float = 1.0) -> None:
        """End after the item in hand, which is waited for so long; what waits is let go."""
        with self._lock:
            self.closing = True
        if self._thread is None:
            return
        with contextlib.suppress(queue.Empty):
            while True:
                self._queue.get_nowait()
        self._queue.put(None)
        self._thread.join(seconds)
        self._thread = None

    def _run(self) -> None:
        while True:
            if self._between is not None and not self.closing:
                self._between()
            try:
                taken = self._queue.get(timeout=self._wake)
            except queue.Empty:
                continue
            if taken is None:
                return
            item, size = taken
            with self._lock:
                self._held -= size
            self._do(item)
