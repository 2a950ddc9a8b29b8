"""A person's override: decided whatever the evidence says, recorded, replayed, explained."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from davy.core.clock import ManualClock
from davy.core.errors import ConflictError, InvalidInputError, UnavailableError
from davy.rollout.adapters.memory import DryRunTraffic, MemoryJournal
from davy.rollout.back import Override, arms_for, begin, send_back
from davy.rollout.decide import WEIGHT_UNKNOWN, decide
from davy.rollout.explain import explain
from davy.rollout.override import OVERRIDDEN, override
from davy.rollout.record import Header, Record, look_line
from davy.rollout.replay import replay, resume
from davy.rollout.series import Arms
from davy.rollout.spec import RolloutSpec
from davy.rollout.state import Observation, Phase, State
from davy.rollout.verdict import Counts
from davy.rollout.vetoes import Veto

START = datetime(2017, 1, 2, tzinfo=UTC)
ARMS = Arms(stable="bad", canary="good")
VETO = Veto("signature", active=True, message="not verified")
WANTED = Override(to="good", by="on call", why="pages of errors", vetoes=(VETO,))


def spec() -> RolloutSpec:
    return RolloutSpec.model_validate(
        {
            "candidate": {"version": "good"},
            "steps": [{"weight": 5}],
            "analysis": {"indicators": [{"name": "errors"}], "vetoes": ["signature"]},
        }
    )


def begun(failing: int = 0) -> MemoryJournal:
    """A rollout of two looks at 5 %, the second with this many failed canary requests in 100."""
    wanted, state, journal = spec(), State(), MemoryJournal()
    header = Header(
        time=START,
        rollout="r",
        generation=1,
        settings_hash=wanted.settings_hash(),
        spec=wanted.document(),
        stable="bad",
        canary="good",
        latency_objective_seconds=0.1,
    )
    journal.begin(header)
    quiet = (Veto("signature", active=False, message="verified"),)
    for look, counts in enumerate(
        (Counts(0, 0, 0, 0), Counts(0, 0, 0, 0), Counts(1900, 0, 100, failing))
    ):
        now = START + timedelta(seconds=30 * look)
        seen = Observation(
            weight=state.weight,
            counts={"errors": counts},
            start=now.timestamp() - 1,
            vetoes=quiet,
        )
        decision = decide(wanted, state, seen, now)
        journal.append(look_line(header, state.weight, seen, decision, now))
        state = decision.state
    return journal


def whole(journal: MemoryJournal) -> Record:
    record = journal.read()
    assert record is not None
    return record


def send(journal: MemoryJournal, wanted: Override, traffic: DryRunTraffic) -> str:
    clock = ManualClock(START + timedelta(hours=1))
    header = begin(journal, name="r", arms=ARMS, clock=clock, objective=0.1)
    end = send_back(wanted, journal=journal, header=header, traffic=traffic, clock=clock)
    return end.reason if end.action == "hold" else end.action


def test_a_new_record_says_who_and_why_and_replays() -> None:
    journal, traffic = MemoryJournal(), DryRunTraffic()
    assert send(journal, WANTED, traffic) == "finish"
    assert traffic.asked == [100]
    first, last = journal.lines
    assert (first.actor, first.decision.reason) == ("on call", OVERRIDDEN)
    without = "(without the evidence: veto signature: not verified)"
    assert first.decision.message == f"pages of errors {without}"
    assert [item.active for item in first.vetoes] == [True]
    assert (last.actor, last.decision.phase) == ("davy", Phase.PROMOTED)
    assert replay(whole(journal)).difference is None
    text = explain(whole(journal))
    assert "on call sent all traffic to good: pages of errors" in text
    assert "No indicator is judged: a person decides" in text


@pytest.mark.parametrize(("to", "weight"), [("good", 100), ("bad", 0)])
def test_a_rollout_that_was_begun_is_overridden_either_way(to: str, weight: int) -> None:
    # Failing evidence would roll back at the next look; a person's decision stands.
    journal, traffic = begun(failing=60), DryRunTraffic(weight=5)
    assert send(journal, Override(to=to, by="on call", why="x"), traffic) == "finish"
    assert traffic.asked == [weight]
    record = whole(journal)
    assert replay(record).difference is None
    ours, theirs = resume(record), replay(record).state
    assert ours.overridden
    assert (ours.phase, ours.weight, ours.overridden) == (
        theirs.phase,
        theirs.weight,
        theirs.overridden,
    )


def test_an_ended_rollout_can_be_overridden_again() -> None:
    journal, traffic = MemoryJournal(), DryRunTraffic()
    send(journal, WANTED, traffic)
    assert send(journal, Override(to="bad", by="day shift", why="repaired"), traffic) == "finish"
    assert traffic.asked == [100, 0]
    assert replay(whole(journal)).difference is None


def test_replay_finds_an_override_that_was_changed() -> None:
    journal = begun()
    send(journal, WANTED, DryRunTraffic(weight=5))
    at = next(i for i, item in enumerate(journal.lines) if item.actor != "davy")
    line = journal.lines[at]
    decision = line.decision.model_copy(update={"weight": 40})
    journal.lines[at] = line.model_copy(update={"decision": decision})
    outcome = replay(whole(journal))
    assert outcome.difference is not None
    assert outcome.difference.field == "decision.weight"


@dataclass(slots=True)
class AbsentRouter(DryRunTraffic):
    """Answers nothing."""

    def set_weight(self, arms: Arms, percent: int) -> None:
        raise UnavailableError("no answer", where="router")

    def read_weight(self, arms: Arms) -> int | None:
        raise UnavailableError("no answer", where="router")


def test_a_router_that_does_not_answer_is_said_and_the_override_can_be_given_again() -> None:
    journal = MemoryJournal()
    assert send(journal, WANTED, AbsentRouter()) == WEIGHT_UNKNOWN
    traffic = DryRunTraffic()
    assert send(journal, WANTED, traffic) == "finish"
    assert replay(whole(journal)).difference is None


def test_arms_come_from_the_record_or_from_what_serves() -> None:
    assert arms_for(None, "good", ["good", "bad", "older"], where="x") == ARMS
    assert arms_for(whole(begun()), "bad", [], where="x") == ARMS
    with pytest.raises(ConflictError, match=r"of bad and good, not of v9.*another folder"):
        arms_for(whole(begun()), "v9", [], where="x")
    with pytest.raises(InvalidInputError, match="from which is traffic taken"):
        arms_for(None, "good", ["good"], where="x")


@pytest.mark.parametrize(("by", "why"), [("", "x"), ("  ", "x"), ("me", ""), ("davy", "x")])
def test_an_override_needs_a_person_and_a_reason(by: str, why: str) -> None:
    with pytest.raises(InvalidInputError):
        Override(to="good", by=by, why=why)


def test_only_the_two_ends_can_be_asked_for() -> None:
    with pytest.raises(InvalidInputError, match="0 or 100, not 50"):
        override(spec(), State(), Observation(weight=0), START, weight=50, why="x")
