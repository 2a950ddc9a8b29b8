"""What people are told beside the resource, in Events.

Belongs here: which decisions are told, under which key. Not here: making Events (an adapter).

A look that holds is not told: the status has it, and a day of looks would bury the rest.
"""

from __future__ import annotations

import re
from typing import Literal

from davy.rollout.decide import Action
from davy.rollout.operator.ports import Note
from davy.rollout.pods import PodAction
from davy.rollout.record import Record
from davy.rollout.state import Phase

LONGEST_MESSAGE = 1000

_REASONS: dict[Action, tuple[Literal["Normal", "Warning"], str]] = {
    "advance": ("Normal", "Advanced"),
    "promote": ("Normal", "Promoting"),
    "rollback": ("Warning", "RollingBack"),
}
_ENDING = frozenset({Phase.PROMOTING, Phase.ROLLING_BACK, Phase.PROMOTED, Phase.ROLLED_BACK})


def note(kind: Literal["Normal", "Warning"], reason: str, message: str, *, key: str) -> Note:
    """Return a note with a message that an Event can hold."""
    return Note(key, kind, reason, message[:LONGEST_MESSAGE])


def look_note(attempt: int, look: int, action: Action, reason: str, message: str) -> Note | None:
    """Return what is told of a look, None when nothing is."""
    if action not in _REASONS:
        return None
    kind, word = _REASONS[action]
    return note(kind, word, f"{reason}: {message}", key=f"{attempt}-{look}")


def last_note(attempt: int, record: Record) -> Note | None:
    """Return what is told of the last look of a record."""
    if not record.looks:
        return None
    line = record.looks[-1]
    said = line.decision
    return look_note(attempt, line.look, said.action, said.reason, said.message)


def end_note(attempt: int, *, promoted: bool, version: str) -> Note:
    """Return what is told once one arm is left."""
    kind: Literal["Normal", "Warning"] = "Normal" if promoted else "Warning"
    word = "Promoted" if promoted else "RolledBack"
    return note(kind, word, f"all traffic goes to {version}", key=f"{attempt}-end")


def pod_note(attempt: int, action: PodAction, *, done: bool) -> Note:
    """Return what is told of a pod that alone carries a fail, or that is the only one.

    `done` says that it was replaced, or that there is a second one.
    """
    if action.kind == "add":
        message = f"what is seen may be the node of {action.pod}, the canary's only pod: "
        if done:
            message += "it gets a second one, by which that can be told"
            return note("Normal", "SecondPod", message, key=f"{attempt}-second-pod-made")
        message += "with a second one (minReplicas of the predictor) it can be told"
        return note("Warning", "SecondPodWanted", message, key=f"{attempt}-second-pod")
    message = f"pod {action.pod} alone carries the fail: it is replaced once, and left out"
    if not done:
        message = f"pod {action.pod} alone carries the fail, and could not be replaced: delete it"
    return note("Warning", "PodReplaced" if done else "PodEffect", message,
                key=f"{attempt}-pod-{_key(action.pod)}")  # fmt: skip


def _key(text: str) -> str:
    """Return what may stand in the name of an Event."""
    return re.sub(r"[^a-z0-9.-]+", "-", text.lower()).strip("-.") or "x"


def cause(record: Record) -> tuple[str, str] | None:
    """Return reason and message of the last decision, or of the one that a rollout ends by."""
    if not record.looks:
        return None
    last = record.looks[-1].decision
    if last.phase in _ENDING:
        for line in reversed(record.looks):
            if line.decision.action in {"promote", "rollback"}:
                return line.decision.reason, line.decision.message
    return last.reason, last.message
