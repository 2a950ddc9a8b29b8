"""A deleted rollout goes only once its canary has: what is refused is tried again, and told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.fixtures.operator_cluster import OperatorBed, drive, told

from davy.core.errors import ConfigurationError, DavyError, InvalidInputError
from davy.rollout.adapters.kubernetes_objects import RefusedByServerError
from davy.rollout.kserve.moves import (
    SERVICE_BUSY,
    SERVICE_EDITED,
    SERVICE_GONE,
    UNSUPPORTED,
    WEIGHT_NOT_FOLLOWED,
    Refuse,
    RefusedError,
)


def with_weight() -> OperatorBed:
    bed = OperatorBed()
    bed.apply()
    drive(bed, ticks=3)
    assert bed.cluster.weight
    bed.delete()
    return bed


@pytest.mark.parametrize(
    "refusal",
    [
        RefusedByServerError("admission webhook: the change freeze holds"),
        RefusedError(Refuse(UNSUPPORTED, "admission webhook: the change freeze holds")),
        RefusedError(Refuse(SERVICE_BUSY, "another rollout is at work")),
        RefusedError(Refuse(WEIGHT_NOT_FOLLOWED, "the routes stay as they are")),
        InvalidInputError("the rollout's note cannot be read"),
        ConfigurationError("no right to write"),
    ],
    ids=lambda item: getattr(item, "reason", type(item).__name__),
)
def test_a_canary_with_weight_is_not_left_because_of_what_may_pass(refusal: DavyError) -> None:
    bed = with_weight()
    bed.refusing = refusal
    operator = bed.operator()
    waits = [operator.withdraw("shop", "next-basket", "uid-0") for _ in range(2)]
    assert all(wait is not None and wait > 0 for wait in waits)
    assert told(bed)[-1] == "NotWithdrawn"
    note = next(note for note in bed.notes.values() if note.reason == "NotWithdrawn")
    assert note.kind == "Warning"
    assert str(refusal) in note.message
    bed.refusing = None
    drive(bed)
    assert bed.service is not None
    assert (bed.cluster.weight, bed.service.canary) == (0, None)
    assert told(bed)[-1] == "Withdrawn"


@pytest.mark.parametrize("reason", [SERVICE_EDITED, SERVICE_GONE])
def test_what_somebody_else_has_changed_or_deleted_is_let_go(reason: str) -> None:
    bed = with_weight()
    bed.refusing = RefusedError(Refuse(reason, "by somebody else"))
    assert bed.operator().withdraw("shop", "next-basket", "uid-0") is None
    assert told(bed)[-1] == "LeftAsItIs"


def test_deleted_in_the_foreground_before_its_status_was_written_the_canary_still_goes() -> None:
    bed = OperatorBed()
    bed.apply()
    operator = bed.operator()
    while bed.service is None or bed.service.canary is None:
        claimed = bed.of()
        operator.tick("shop", "next-basket", "uid-0")
    assert bed.cluster.weight == 5
    # As if the operator had ended between the look and the status; the record goes first.
    key = ("shop", "next-basket")
    bed.resources[key] = replace(bed.resources[key], status=claimed)
    assert bed.of().attempt == 0
    bed.records.clear()
    bed.delete()
    drive(bed)
    assert bed.service is not None
    assert (bed.cluster.weight, bed.service.canary, bed.service.lost) == (0, None, 0)


def test_without_a_record_and_with_a_spec_that_cannot_be_read_the_canary_still_goes() -> None:
    bed = OperatorBed()
    bed.apply()
    drive(bed, ticks=3)
    bed.apply(steps=[])
    bed.records.clear()
    bed.delete()
    drive(bed)
    assert bed.service is not None
    assert (bed.cluster.weight, bed.service.canary) == (0, None)
