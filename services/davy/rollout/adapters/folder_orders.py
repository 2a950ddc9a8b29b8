"""Orders in the folder of the decision record, one JSON line each.

Belongs here: the file. Not here: what an order is (`davy.rollout.orders`).

Whoever gives an order does not hold the folder's lock: the rollout that runs does. One line in one
write at the end of the file does not mix with another's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from davy.core.errors import InvalidInputError, TemporaryError
from davy.core.files import append_line
from davy.rollout.orders import Order

ORDERS = "orders.jsonl"


@dataclass(frozen=True, slots=True)
class FolderOrders:
    """``orders.jsonl`` in a folder that exists."""

    folder: Path

    @property
    def path(self) -> Path:
        """Return the file."""
        return self.folder / ORDERS

    def read(self) -> Sequence[Order]:
        """Return all orders; a last line that a crash cut off is none.

        Raises
        ------
        InvalidInputError
            A line is no order; names it.
        TemporaryError
            The file cannot be read.
        """
        try:
            whole = self.path.read_bytes().rpartition(b"\n")[0]
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise TemporaryError(
                f"cannot be read ({error.strerror})", where=str(self.path)
            ) from None
        return [self._parse(line, i) for i, line in enumerate(whole.split(b"\n"), 1) if line]

    def add(self, order: Order) -> None:
        """Append one order.

        Raises
        ------
        TemporaryError
            The file cannot be written.
        """
        try:
            append_line(self.path, order.model_dump_json().encode())
        except OSError as error:
            raise TemporaryError(
                f"cannot be written ({error.strerror})",
                where=str(self.path),
                fix="Nothing was asked: free the disk, or ask as who may write there",
            ) from None

    def _parse(self, line: bytes, number: int) -> Order:
        try:
            return Order.model_validate_json(line)
        except ValidationError as error:
            raise InvalidInputError(
                f"line {number} is no order: {str(error).splitlines()[0]}",
                where=str(self.path),
                fix="Take the line out; orders are given by davy rollout pause and the like",
            ) from None
