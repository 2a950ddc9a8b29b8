"""What the operator does about a pod that alone carries a fail, or is the only one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.fixtures.operator_cluster import OperatorBed, drive, told

from davy.rollout import engine as engine_module
from davy.rollout.decide import Decision
from davy.rollout.engine import Engine
from davy.rollout.pods import PodAction


@pytest.mark.parametrize("known", [True, False])
def test_a_pod_that_alone_carries_a_fail_is_replaced_once(
    known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed = OperatorBed()
    bed.pods = {"v2-abc"} if known else set()
    look = Engine.look

    def asks(engine: Engine) -> Decision:
        decision = look(engine)
        at_second = engine.state.looks == 2
        return (
            replace(decision, pod_action=PodAction("replace", "v2-abc"))
            if at_second
            else (decision)
        )

    monkeypatch.setattr(Engine, "look", asks)
    bed.apply()
    drive(bed)
    assert bed.replaced == (["v2-abc"] if known else [])
    assert told(bed).count("PodReplaced" if known else "PodEffect") == 1


def test_a_replacement_that_a_kill_left_undone_is_made_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bed = OperatorBed()
    bed.pods = {"v2-abc"}
    real = engine_module.decide

    def asks(*arguments: Any) -> Decision:
        decision = real(*arguments)
        return replace(decision, pod_action=PodAction("replace", "v2-abc"))

    bed.apply()
    drive(bed, ticks=2)
    with monkeypatch.context() as patched:
        patched.setattr(engine_module, "decide", asks)
        bed.cluster.crash_at = bed.cluster.effects + 2  # the line is written, nothing else
        drive(bed, ticks=1)
    assert bed.replaced == []
    drive(bed)
    assert bed.replaced == ["v2-abc"]


@pytest.mark.parametrize(("spare", "word"), [(False, "SecondPodWanted"), (True, "SecondPod")])
def test_a_second_pod_is_made_where_one_can_be_spared_else_people_are_asked_once(
    spare: bool, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed = OperatorBed()
    bed.spare_pod = spare
    look = Engine.look
    monkeypatch.setattr(
        Engine, "look", lambda engine: replace(look(engine), pod_action=PodAction("add", "v2:1"))
    )
    bed.apply()
    drive(bed)
    assert [item for item in told(bed) if item.startswith("SecondPod")] == [word]
    assert bed.second_pods > 1, "asked for again at each look, which changes nothing"
    assert bed.replaced == []
