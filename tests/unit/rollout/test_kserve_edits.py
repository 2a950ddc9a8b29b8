"""An edit by somebody else, however it falls between our writes: never taken for one of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.fixtures.kserve_objects import CANDIDATE, started

from davy.rollout.kserve import standard
from davy.rollout.kserve.mark import Mark, Stage
from davy.rollout.kserve.moves import SERVICE_EDITED, Refuse, Settled, Split, Wait


def edited_before(percent: int, *, replicas: int) -> tuple[dict[str, Any], Mark]:
    """Our write was announced, and somebody else's took its generation: ours was not made."""
    found, mark = started(percent)
    found["spec"]["predictor"]["model"]["storageUri"] = "pvc://models/somebodys"
    return found, replace(mark, replicas=replicas)


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("wanted", [Split(10), Split(50), Settled(promoted=True)])
def test_an_edit_in_the_place_of_our_write_is_not_taken_for_it(
    replicas: int, wanted: Split | Settled
) -> None:
    found, mark = edited_before(10, replicas=replicas)
    move = standard.next_step(standard.Seen("r1", CANDIDATE, found, mark), wanted)
    assert isinstance(move, Refuse)
    assert move.reason == SERVICE_EDITED


def test_pods_that_somebody_else_gave_the_canary_are_an_edit() -> None:
    found, mark = started(10)
    found["spec"]["canary"][0]["predictor"]["minReplicas"] = 7
    move = standard.next_step(standard.Seen("r1", CANDIDATE, found, mark), Split(10))
    assert isinstance(move, Refuse)
    assert move.reason == SERVICE_EDITED


def test_another_model_in_the_place_of_a_promoted_one_is_an_edit() -> None:
    found, mark = started(100)
    (canary,) = found["spec"].pop("canary")
    found["spec"]["predictor"] = canary["predictor"]
    mark = replace(mark, stage=Stage.PROMOTED)
    seen = standard.Seen("r1", CANDIDATE, found, mark)
    assert isinstance(standard.next_step(seen, Settled(promoted=True)), Wait)
    found["spec"]["predictor"]["model"]["storageUri"] = "pvc://models/somebodys"
    move = standard.next_step(seen, Settled(promoted=True))
    assert isinstance(move, Refuse)
    assert move.reason == SERVICE_EDITED
