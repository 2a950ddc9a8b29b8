"""The status follows from the standing; conditions remember since when."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from davy.core.errors import (
    ConfigurationError,
    ConflictError,
    DavyError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    PermanentError,
    TemporaryError,
    UnavailableError,
)
from davy.rollout import conditions
from davy.rollout.decide import PAUSED
from davy.rollout.kserve.moves import UNSUPPORTED, Refuse, RefusedError
from davy.rollout.operator.trouble import trouble, wait_seconds
from davy.rollout.series import Arms
from davy.rollout.state import Phase, State
from davy.rollout.status import (
    LONGEST_MESSAGE,
    ModelRolloutStatus,
    Standing,
    Trouble,
    read_status,
    status_of,
)

NOW = datetime(2017, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
NOTHING = ModelRolloutStatus()
GOING = Standing(
    generation=3,
    attempt=1,
    arms=Arms("v1", "v2"),
    state=State(phase=Phase.PROGRESSING, step=0, weight=5, looks=7),
    said=("Inconclusive", "errors: too early"),
    weight=5,
    looked=NOW,
    record_uri="configmap:shop/x",
)


def test_it_survives_the_api_server() -> None:
    status = status_of(GOING, NOTHING, NOW)
    assert read_status(status.document()) == status
    document = status.document()
    assert document["weights"] == {"stable": 95, "canary": 5}
    assert document["recordURI"] == "configmap:shop/x"
    assert document["lastLookTime"] == "2017-01-02T03:04:05Z"
    assert document["step"] == 1


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    first = status_of(GOING, NOTHING, NOW)
    later = NOW + timedelta(hours=1)
    other = replace(GOING, said=("NotEnoughRequests", "12 of 50"))
    second = status_of(other, first, later)
    was, now = first.condition(conditions.PROGRESSING), second.condition(conditions.PROGRESSING)
    assert was is not None
    assert now is not None
    assert (now.reason, now.message) == ("NotEnoughRequests", "12 of 50")
    assert now.last_transition_time == was.last_transition_time == NOW.replace(microsecond=0)
    failed = status_of(GOING.with_trouble(Trouble("Gone", "it is", permanent=True)), second, later)
    ended = failed.condition(conditions.PROGRESSING)
    assert ended is not None
    assert ended.last_transition_time == later.replace(microsecond=0)


@pytest.mark.parametrize(
    ("phase", "settled", "shown"),
    [
        (Phase.PENDING, False, "Pending"),
        (Phase.PROGRESSING, False, "Progressing"),
        (Phase.INCONCLUSIVE, False, "Inconclusive"),
        (Phase.PROMOTING, False, "Promoting"),
        (Phase.ROLLING_BACK, False, "RollingBack"),
        (Phase.PROMOTED, False, "Promoting"),
        (Phase.PROMOTED, True, "Promoted"),
        (Phase.ROLLED_BACK, False, "RollingBack"),
        (Phase.ROLLED_BACK, True, "RolledBack"),
    ],
)
def test_an_end_is_shown_once_one_arm_is_left(phase: Phase, settled: bool, shown: str) -> None:
    standing = replace(GOING, state=State(phase=phase), settled=settled)
    assert status_of(standing, NOTHING, NOW).phase == shown


def test_paused_is_a_phase_of_its_own() -> None:
    standing = replace(GOING, said=(PAUSED, "the spec says paused"))
    assert status_of(standing, NOTHING, NOW).phase == "Paused"


def test_what_is_not_known_stays_as_it_was() -> None:
    before = status_of(GOING, NOTHING, NOW)
    passing = Standing(generation=3).with_trouble(Trouble("TemporaryError", "x", permanent=False))
    after = status_of(passing, before, NOW)
    assert after.phase == "Progressing"
    assert after.weights == before.weights
    assert after.versions == before.versions
    reconciled = after.condition(conditions.RECONCILED)
    assert reconciled is not None
    assert (reconciled.status, reconciled.reason) == ("False", "TemporaryError")


def test_a_weight_that_the_router_does_not_say_is_not_shown() -> None:
    before = status_of(GOING, NOTHING, NOW)
    assert status_of(replace(GOING, weight=None), before, NOW).weights is None


def test_a_claim_is_held_until_the_end() -> None:
    claim = status_of(Standing(generation=1), NOTHING, NOW)
    assert claim.claimed
    assert not NOTHING.claimed
    ended = status_of(replace(GOING, state=State(phase=Phase.PROMOTED), settled=True), claim, NOW)
    assert not ended.claimed
    assert ended.settled_attempt == 1
    anew = status_of(Standing(generation=4), ended, NOW)
    assert (anew.claimed, anew.phase) == (True, "Pending")


def test_a_long_message_is_cut() -> None:
    standing = replace(GOING, said=("Inconclusive", "x" * 10_000))
    progressing = status_of(standing, NOTHING, NOW).condition(conditions.PROGRESSING)
    assert progressing is not None
    assert len(progressing.message) == LONGEST_MESSAGE


@pytest.mark.parametrize("document", [None, "x", {"phase": "Mood"}, {"step": -1}, []])
def test_a_damaged_status_is_no_reason_to_stop(document: object) -> None:
    assert read_status(document) == NOTHING


@pytest.mark.parametrize(
    ("error", "reason", "permanent"),
    [
        (InvalidInputError("x"), "SpecInvalid", True),
        (NotFoundError("x"), "NotFound", True),
        (IntegrityError("x"), "IntegrityError", True),
        (ConflictError("x"), "ChangedBySomebodyElse", True),
        (PermanentError("x"), "Refused", True),
        (RefusedError(Refuse(UNSUPPORTED, "x")), "Unsupported", True),
        (UnavailableError("x"), "TemporaryError", False),
        # A permission is given outside the rollout, which then goes on.
        (ConfigurationError("x"), "ConfigurationError", False),
    ],
)
def test_an_error_is_a_constant_reason(error: DavyError, reason: str, permanent: bool) -> None:
    found = trouble(error)
    assert (found.reason, found.permanent) == (reason, permanent)


def test_a_longer_delay_that_the_error_asks_for_is_kept() -> None:
    assert wait_seconds(TemporaryError("x", delay=300.0), 5) == 300.0
    assert wait_seconds(ConfigurationError("x"), 1) == 60.0
