"""What people ask of a rollout that runs: pause, resume, promote, roll back.

Belongs here: an order, and which orders are still to be done. Not here: where they are kept
(adapters), what an override leads to (`davy.rollout.override`).

An order is no decision: the engine reads the orders at its next look and records what it does on
them, with who and why. The record alone says what was done; an order that a crash left undone is
found again, because it is younger than the last override of the record.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from davy.core.errors import InvalidInputError
from davy.core.files import MachineWritten
from davy.rollout.record import DAVY, Header, Record

OrderKind = Literal["pause", "resume", "promote", "rollback"]
# Canary weight that an override asks for.
ENDS: dict[OrderKind, int] = {"promote": 100, "rollback": 0}


class Order(MachineWritten):
    """What a person asks, who it is, why, and of which record.

    ``record`` is `Header.identity`. Where the record may not have begun yet, on a cluster, it is
    empty: ``uid``, ``candidate`` and ``generation`` are then those of the resource when it was
    asked.
    """

    kind: OrderKind
    by: str
    because: str
    time: datetime
    id: str = ""
    record: str = ""
    uid: str = ""
    candidate: str = ""
    generation: int = 0

    def for_record(self, header: Header) -> Order:
        """Return it as one of this record."""
        return self.model_copy(update={"record": header.identity})

    def for_resource(self, uid: str, candidate: str, generation: int) -> Order:
        """Return it as one of what a resource asks for in this generation of its spec."""
        bound = {"uid": uid, "candidate": candidate, "generation": generation}
        return self.model_copy(update=bound)

    def is_of(self, header: Header) -> bool:
        """Whether this record is meant.

        A generation of the resource only grows; one that is older than the record's is of an
        attempt before it. A younger one that changed what is judged would have begun another.
        """
        if not self.id:
            return False
        if self.record:
            return self.record == header.identity
        return self.candidate == header.canary and self.generation >= header.generation


class Orders(Protocol):
    """Where orders are kept, oldest first."""

    def read(self) -> Sequence[Order]:
        """Return all orders of the rollout."""
        ...

    def add(self, order: Order) -> None:
        """Keep one order more, on the disk when this returns."""
        ...


@dataclass(frozen=True, slots=True)
class NoOrders:
    """Nobody can ask anything of this rollout."""

    def read(self) -> Sequence[Order]:
        """Return none."""
        return ()

    def add(self, order: Order) -> None:
        """Refuse it.

        Raises
        ------
        InvalidInputError
            Always.
        """
        raise InvalidInputError(f"no {order.kind} can be asked of this rollout", where="orders")


def order(kind: OrderKind, *, by: str, because: str, time: datetime) -> Order:
    """Return an order with an id of its own; it is not yet of any record.

    Raises
    ------
    InvalidInputError
        It has no person or no reason.
    """
    for name, value in (("--by", by), ("--because", because)):
        if not value.strip():
            raise InvalidInputError("is empty", where=name, fix="Say who decides, and why")
    if by.strip() == DAVY:
        raise InvalidInputError(f"'{DAVY}' is no person", where="--by", fix="Name who decides")
    return Order(kind=kind, by=by, because=because, time=time, id=secrets.token_hex(8))


def paused_by(orders: Iterable[Order], header: Header) -> Order | None:
    """Return the order by which the rollout of a record is paused now, if it is."""
    last = None
    for item in orders:
        if item.kind not in ENDS and item.is_of(header):
            last = item
    return last if last is not None and last.kind == "pause" else None


def pending(orders: Iterable[Order], header: Header, settled: Iterable[str]) -> tuple[Order, ...]:
    """Return the overrides of a record that no look has settled: the last one counts.

    Parameters
    ----------
    orders : iterable of Order
        Oldest first, as they were given.
    header : Header
        Of the record.
    settled : iterable of str
        Ids of those that looks of it have settled.
    """
    done = frozenset(settled)
    return tuple(
        item for item in orders if item.kind in ENDS and item.id not in done and item.is_of(header)
    )


def settled_by(record: Record) -> frozenset[str]:
    """Return the ids of the orders that the looks of a record have settled."""
    return frozenset(each for line in record.looks for each in line.orders)
