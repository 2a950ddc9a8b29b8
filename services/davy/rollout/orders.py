"""What people ask of a rollout that runs: pause, resume, promote, roll back.

Belongs here: an order, and which orders are still to be done. Not here: where they are kept
(adapters), what an override leads to (`davy.rollout.override`).

An order is no decision: the engine reads the orders at its next look and records what it does on
them, with who and why. The record alone says what was done; an order that a crash left undone is
found again, because it is younger than the last override of the record.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from davy.core.errors import InvalidInputError
from davy.core.files import MachineWritten
from davy.rollout.record import DAVY, Record

OrderKind = Literal["pause", "resume", "promote", "rollback"]
# Canary weight that an override asks for.
ENDS: dict[OrderKind, int] = {"promote": 100, "rollback": 0}


class Order(MachineWritten):
    """What a person asks, who it is, and why."""

    kind: OrderKind
    by: str
    because: str
    time: datetime


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
    """Return an order.

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
    return Order(kind=kind, by=by, because=because, time=time)


def paused_by(orders: Iterable[Order], since: datetime) -> Order | None:
    """Return the order by which a rollout that began at `since` is paused now, if it is."""
    last = None
    for item in orders:
        if item.kind not in ENDS and item.time >= since:
            last = item
    return last if last is not None and last.kind == "pause" else None


def pending(orders: Iterable[Order], since: datetime) -> Order | None:
    """Return the newest override that is younger than `since`: the last word counts."""
    asked = [item for item in orders if item.kind in ENDS and item.time > since]
    return asked[-1] if asked else None


def done_until(record: Record) -> datetime:
    """Return the time up to which the overrides of a record have been done."""
    overrides = [line.time for line in record.looks if line.actor != DAVY]
    return max(overrides, default=record.header.time)
