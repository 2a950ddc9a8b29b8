"""Which attempt made a canary, by the note beside its InferenceService."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.fixtures.operator_cluster import OperatorBed

from davy.core.errors import InvalidInputError
from davy.rollout.adapters.kube_marks import KubeMarks
from davy.rollout.kserve.mark import Mark, Stage
from davy.rollout.operator.ports import Made

MARK = Mark(
    rollout="shop/next-basket/uid-0/3",
    uid="service",
    version="v2",
    generation=4,
    stage=Stage.RUNNING,
    percent=5,
    stable={"annotations": {"davylamp.dev/version": "v1"}},
)


class OneNote:
    """Stands for an API server that holds this note, or none."""

    def __init__(self, mark: Mark | None) -> None:
        self.mark = mark
        self.asked: list[tuple[str, str]] = []

    def get(self, resource: Any, namespace: str, name: str) -> dict[str, Any] | None:
        self.asked.append((namespace, name))
        if self.mark is None:
            return None
        return {"metadata": {"resourceVersion": "1"}, "data": {"mark.json": self.mark.to_text()}}


def made(mark: Mark | None) -> Made | None:
    server = OneNote(mark)
    found = KubeMarks(server).made(OperatorBed().apply())  # type: ignore[arg-type]
    assert server.asked == [("shop", "davy-rollout-next-basket")]
    return found


def test_the_note_of_this_rollout_tells_attempt_and_versions() -> None:
    assert made(MARK) == Made(3, stable="v1", canary="v2")


def test_an_end_that_was_announced_may_not_have_been_made() -> None:
    assert made(replace(MARK, stage=Stage.ROLLED_BACK)) is not None


@pytest.mark.parametrize(
    "mark",
    [
        None,
        replace(MARK, rollout="shop/next-basket/uid-00/3"),
        replace(MARK, rollout="shop/other/uid-0/3"),
        replace(MARK, stage=Stage.PROMOTED),
    ],
    ids=["none", "other uid", "other name", "promoted"],
)
def test_a_note_of_another_or_of_a_promotion_tells_nothing(mark: Mark | None) -> None:
    assert made(mark) is None


def test_a_note_without_an_attempt_is_named() -> None:
    with pytest.raises(InvalidInputError, match="names no attempt"):
        made(replace(MARK, rollout="shop/next-basket/uid-0/x"))


def test_a_rollout_that_names_no_service_has_made_nothing() -> None:
    resource = OperatorBed().apply(inferenceServiceRef=None)
    assert KubeMarks(OneNote(MARK)).made(resource) is None  # type: ignore[arg-type]
