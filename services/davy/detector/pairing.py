"""Events into exchanges: a request meets its response by id, whichever comes first.

Belongs here: what waits for its other half, for how long, how much of it. Not here: which events
were told before (`ledger.py`), windows (`windows.py`).

A pair is of one service and id; of one version too where the source names it. KServe's logger
does not, so its pairs take the version from the response's ``model_version``.

Memory is bounded in events and in bytes: the oldest half gives way.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple, Protocol

from davy.detector.samples import Sample
from davy.protocol.events import PayloadEvent

Kind = Literal["request", "response"]
Refusal = Literal["duplicate", "late"]
"""Why an event is of no use: it was told before; its request had stopped waiting for it."""
Standing = Literal["new", "again", "settled", "done", "late", "duplicate"]
"""What is known of an event.

new: heard for the first time. again: recovered after a restart, and nothing came of it yet.
settled: recovered, and its exchange was counted before the restart. done: recovered, and nothing
is left to do. late: its exchange was counted without it. duplicate: told before.
"""


@dataclass(frozen=True, slots=True)
class Half:
    """One event of an exchange: as it came, its watched row, and its place in the journal."""

    event: PayloadEvent
    sample: Sample
    place: int
    came: float


@dataclass(frozen=True, slots=True)
class Pair:
    """A request and its response, as they were told; ``version`` is that of the arm."""

    version: str
    request: PayloadEvent
    response: PayloadEvent


OnPair = Callable[[Pair], None]
"""Hears of every pair of a watched version, once. Called in the event loop: it must not block."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request with its response, or without one when that did not come in time.

    ``settled`` is true where it was counted before a restart.
    """

    key: bytes
    request: Half
    response: Half | None
    settled: bool = False

    @property
    def id(self) -> str:
        """The request's id."""
        return self.request.event.id

    @property
    def time(self) -> datetime:
        """When the request was answered."""
        return self.request.event.time

    @property
    def version(self) -> str:
        """The arm; empty where neither half names it."""
        answered = self.response.sample.version if self.response else ""
        return self.request.sample.version or answered

    @property
    def place(self) -> int:
        """Where the journal holds the earlier half."""
        return min(self.request.place, self.response.place) if self.response else self.request.place

    @property
    def pair(self) -> Pair | None:
        """Both events, if there are two."""
        if self.response is None:
            return None
        return Pair(self.version, self.request.event, self.response.event)


class Known(Protocol):
    """What was told before."""

    def claim(self, key: bytes, kind: Kind, place: int) -> Standing:
        """Remember an event, and return what is known of it."""
        ...

    def forget(self, key: bytes) -> None:
        """Know no more of an exchange that never was one."""
        ...


def pair_key(event: PayloadEvent) -> bytes:
    """Return what both events of an exchange share, as 16 bytes."""
    parts = "\0".join((event.namespace, event.service, event.version, event.id))
    return hashlib.blake2b(parts.encode(), digest_size=16, person=b"davy pair").digest()


class _Waiting(NamedTuple):
    half: Half
    settled: bool


@dataclass(slots=True)
class Pairing:
    """Holds the halves of exchanges until they meet.

    Parameters
    ----------
    known : Known
        What was told before.
    join_seconds : float
        How long a half waits for the other.
    pending, pending_bytes : int
        Requests, and responses, that may wait at once, and the bytes of all bodies.
    """

    known: Known
    join_seconds: float
    pending: int
    pending_bytes: int = 2**63
    _requests: OrderedDict[bytes, _Waiting] = field(default_factory=OrderedDict)
    _responses: OrderedDict[bytes, _Waiting] = field(default_factory=OrderedDict)
    _held: int = 0
    _orphans: int = 0

    @property
    def held_bytes(self) -> int:
        """Bytes of the bodies that wait."""
        return self._held

    def waiting(self) -> dict[str, int]:
        """Return how many requests wait, by the version that they name."""
        found: dict[str, int] = {}
        for item in self._requests.values():
            version = item.half.sample.version
            found[version] = found.get(version, 0) + 1
        return found

    def oldest(self) -> int | None:
        """Return the smallest place in the journal that a waiting half was read from."""
        halves = (*self._requests.values(), *self._responses.values())
        return min((item.half.place for item in halves), default=None)

    def take(self, half: Half) -> Exchange | Refusal | None:
        """Take an event; return its exchange when that is whole, or why it is of no use."""
        key, kind = pair_key(half.event), half.sample.kind
        standing = self.known.claim(key, kind, half.place)
        if standing in ("duplicate", "late"):
            return "late" if standing == "late" else "duplicate"
        if standing == "done":
            return None
        own, others = self._requests, self._responses
        if kind == "response":
            own, others = others, own
        other = others.pop(key, None)
        if other is None:
            own[key] = _Waiting(half, standing == "settled")
            self._held += len(half.event.body)
            return None
        self._held -= len(other.half.event.body)
        request, response = (half, other.half) if kind == "request" else (other.half, half)
        return Exchange(key, request, response, settled=other.settled or standing == "settled")

    def expire(self, now: float) -> Iterator[Exchange]:
        """Let go of what has waited too long or is too much; yield the requests among it."""
        while self._requests:
            key, item = next(iter(self._requests.items()))
            if not self._too_old(item, now) and not self._too_many(self._requests):
                break
            del self._requests[key]
            self._held -= len(item.half.event.body)
            yield Exchange(key, item.half, None, settled=item.settled)
        while self._responses:
            key, item = next(iter(self._responses.items()))
            if not self._too_old(item, now) and not self._too_many(self._responses):
                break
            del self._responses[key]
            self._held -= len(item.half.event.body)
            if not item.settled:
                self.known.forget(key)
                self._orphans += 1

    def take_orphans(self) -> int:
        """Return how many responses were let go without a request since this was last asked."""
        found, self._orphans = self._orphans, 0
        return found

    def _too_old(self, item: _Waiting, now: float) -> bool:
        return now - item.half.came >= self.join_seconds

    def _too_many(self, items: OrderedDict[bytes, _Waiting]) -> bool:
        return len(items) > self.pending or self._held > self.pending_bytes
