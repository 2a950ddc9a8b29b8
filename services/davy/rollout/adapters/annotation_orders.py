"""Orders on the resource itself: an annotation that holds them as JSON lines.

Belongs here: the annotation. Not here: what an order is (`davy.rollout.orders`), writing to the API
server (`davy.rollout.adapters.kube_rollouts`).

Whoever may change a ModelRollout may give orders; the API server's audit log says who it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from davy.core.errors import InvalidInputError
from davy.rollout.orders import Order

ORDERS = "davylamp.dev/orders"


class AnnotationOrders:
    """The orders of the annotations that were taken last.

    Parameters
    ----------
    annotations : mapping
        Of the resource.
    uid : str
        Of the resource: a copy of it that is made anew brings the annotation, not the orders.
    """

    def __init__(self, annotations: Mapping[str, str], uid: str) -> None:
        self._annotations = annotations
        self._uid = uid

    def take(self, annotations: Mapping[str, str]) -> None:
        """Read from these from now on."""
        self._annotations = annotations

    def read(self) -> Sequence[Order]:
        """Return all orders of this resource, oldest first.

        Raises
        ------
        InvalidInputError
            A line is no order; names it.
        """
        lines = self._annotations.get(ORDERS, "").splitlines()
        found = [_parse(line, number) for number, line in enumerate(lines, 1) if line.strip()]
        return [item for item in found if item.uid == self._uid]

    def add(self, order: Order) -> None:
        """Refuse it: orders are given to the API server.

        Raises
        ------
        InvalidInputError
            Always.
        """
        raise InvalidInputError(
            f"a {order.kind} is asked for on the resource", where=f"annotation {ORDERS}"
        )


def with_order(annotations: Mapping[str, str], order: Order) -> str:
    """Return the value of the annotation with one order more."""
    before = annotations.get(ORDERS, "")
    head = before if not before or before.endswith("\n") else before + "\n"
    return head + order.model_dump_json() + "\n"


def _parse(line: str, number: int) -> Order:
    try:
        return Order.model_validate_json(line)
    except ValidationError as error:
        raise InvalidInputError(
            f"line {number} is no order: {str(error).splitlines()[0]}",
            where=f"annotation {ORDERS}",
            fix="Take the line out; orders are given by davy rollout pause and the like",
        ) from None
