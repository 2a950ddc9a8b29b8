"""What a person asks of a rollout on a cluster, in memory: done once, and of one attempt."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.fixtures.operator_cluster import OperatorBed, actions, drive

from davy.rollout.adapters.annotation_orders import ORDERS, with_order
from davy.rollout.orders import OrderKind, order


def ask(bed: OperatorBed, kind: OrderKind, ahead: float = 0.0) -> None:
    """Ask on the resource, as a person does whose clock is so many seconds ahead."""
    key = ("shop", "next-basket")
    found = bed.resources[key]
    now = bed.clock.now() + timedelta(seconds=ahead)
    asked = order(kind, by="on call", because="shoppers complain", time=now)
    bound = asked.for_resource(found.uid, found.spec["candidate"]["version"], found.generation)
    annotations = {ORDERS: with_order(found.annotations, bound)}
    bed.resources[key] = replace(found, annotations=annotations)


@pytest.mark.parametrize("ahead", [-120.0, 0.0, 120.0])
def test_a_persons_order_on_the_resource_is_carried_out_and_recorded(ahead: float) -> None:
    bed = OperatorBed()
    bed.apply()
    drive(bed, ticks=3)
    ask(bed, "rollback", ahead)
    drive(bed)
    assert bed.of().phase == "RolledBack"
    (line,) = [line for line in bed.record().looks if line.actor != "davy"]
    assert (line.actor, line.decision.action) == ("on call", "rollback")
    assert "shoppers complain" in line.decision.message


@pytest.mark.parametrize("changes", [{"candidate": {"version": "v3"}}, {"steps": [{"weight": 20}]}])
def test_a_promote_of_one_attempt_does_not_promote_the_next_without_evidence(
    changes: dict[str, Any],
) -> None:
    bed = OperatorBed()
    bed.apply()
    drive(bed, ticks=3)
    ask(bed, "promote", ahead=3600)
    bed.apply(**changes)
    drive(bed)
    assert bed.of().attempt == 2
    assert {line.actor for line in bed.record(attempt=2).looks} == {"davy"}
    assert actions(bed.record(attempt=2))[0] == "advance"


def test_a_copy_of_a_resource_brings_no_orders() -> None:
    bed = OperatorBed()
    bed.apply()
    drive(bed, ticks=3)
    ask(bed, "promote")
    copied = bed.resources.pop(("shop", "next-basket"))
    other = OperatorBed()
    other.apply()
    key = ("shop", "next-basket")
    made = replace(other.resources[key], uid="uid-new", annotations=copied.annotations)
    other.resources[key] = made
    drive(other)
    assert {line.actor for line in other.record().looks} == {"davy"}


def test_an_order_that_is_given_before_the_first_look_counts() -> None:
    bed = OperatorBed()
    bed.apply()
    ask(bed, "pause", ahead=-120)
    drive(bed, ticks=3)
    assert bed.of().phase == "Paused"
    ask(bed, "resume", ahead=-120)
    drive(bed)
    assert bed.of().phase == "Promoted"
