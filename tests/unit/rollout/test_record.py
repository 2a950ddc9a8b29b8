"""The record: round trip, replay, explanation, and damage."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from davy.core.errors import InvalidInputError, NotFoundError
from davy.rollout.counters import Cursor, Missing
from davy.rollout.decide import decide
from davy.rollout.explain import explain
from davy.rollout.record import Header, LookLine, Record, line_hash, look_line, to_line
from davy.rollout.record_file import parse_record, read_record
from davy.rollout.replay import replay, resume
from davy.rollout.series import Sample, SeriesKey
from davy.rollout.spec import RolloutSpec
from davy.rollout.state import Observation, State
from davy.rollout.verdict import Counts
from davy.rollout.vetoes import Veto

START = datetime(2017, 1, 2, tzinfo=UTC)


def spec() -> RolloutSpec:
    return RolloutSpec.model_validate(
        {
            "candidate": {"version": "v2"},
            "steps": [{"weight": 5}, {"weight": 50}],
            "analysis": {
                "interval": "10s",
                "indicators": [{"name": "errors", "allowance": 0.01}],
                "vetoes": ["signature"],
            },
        }
    )


def content(*, looks: int = 12, bad: bool = False) -> bytes:
    """A record as an engine would have written it."""
    wanted, state = spec(), State()
    header = Header(
        time=START,
        rollout="next-basket",
        generation=1,
        settings_hash=wanted.settings_hash(),
        spec=wanted.document(),
        stable="v1",
        canary="v2",
        latency_objective_seconds=0.1,
    )
    lines = [to_line(header)]
    for look in range(looks):
        now = START + timedelta(seconds=10 * look)
        n_canary = 20 * state.weight
        failed = n_canary // 4 if bad else 0
        n_stable = 2000 - n_canary
        missing = Missing("MetricsStale", "old") if look == 3 else None
        seen = Observation(
            weight=state.weight,
            counts=(
                {} if missing else {"errors": Counts(n_stable, min(1, n_stable), n_canary, failed)}
            ),
            missing=missing,
            start=now.timestamp() - 10,
            end=now.timestamp(),
            vetoes=(Veto("signature", active=False, message="verified"),),
            cursor=Cursor(
                {SeriesKey("davy_requests_total", "v2", "v2:1", "ok"): Sample(1.5, look)}
            ),
        )
        decision = decide(wanted, state, seen, now)
        lines.append(to_line(look_line(header, state.weight, seen, decision, now)))
        state = decision.state
    return b"".join(lines)


def record(**changes: Any) -> Record:
    found = parse_record(content(**changes), where="record")
    assert found is not None
    return found


@pytest.mark.parametrize("bad", [False, True])
def test_replay_recomputes_every_decision(bad: bool) -> None:
    outcome = replay(record(bad=bad))
    assert outcome.difference is None
    assert outcome.agreed == 12


@pytest.mark.parametrize("bad", [False, True])
def test_resuming_gives_the_state_that_replaying_gives(bad: bool) -> None:
    found = record(bad=bad)
    ours, theirs = resume(found), replay(found).state
    for name in ("phase", "step", "weight", "started", "honoured_since", "step_requests", "looks"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.cursor == theirs.cursor
    assert ours.evidence["errors"].totals == theirs.evidence["errors"].totals


@pytest.mark.parametrize("bad", [False, True])
def test_the_phase_of_a_record_is_that_of_what_goes_on_from_it(bad: bool) -> None:
    phases = set()
    for looks in range(13):
        found = record(bad=bad, looks=looks)
        assert found.phase == resume(found).phase
        phases.add(found.phase)
    assert len(phases) >= 4


def test_a_line_reads_back_as_it_was_written() -> None:
    found = record()
    again = b"".join(to_line(entry) for entry in (found.header, *found.looks))
    assert again == content()


def changed(number: int, change: Callable[[dict[str, Any]], None]) -> bytes:
    lines = content().splitlines(keepends=True)
    document = json.loads(lines[number])
    change(document)
    lines[number] = json.dumps(document).encode() + b"\n"
    return b"".join(lines)


@pytest.mark.parametrize(
    ("number", "change", "look", "field"),
    [
        (7, lambda d: d["decision"].update(action="promote"), 7, "decision.action"),
        (7, lambda d: d["decision"].update(weight=99), 7, "decision.weight"),
        (5, lambda d: d["verdicts"][0].update(outcome="pass"), 5, "verdicts.errors.outcome"),
        (5, lambda d: d["verdicts"][0].update(ratio_lower=0.1), 5, "verdicts.errors.ratio_lower"),
        (5, lambda d: d["verdicts"].clear(), 5, "verdicts"),
        (9, lambda d: d["weights"].update(asked=0), 9, "weights.asked"),
        (
            4,
            lambda d: d["intervals"].update(
                counts=[
                    {
                        "indicator": "errors",
                        "stable": {"n": 1900, "k": 1},
                        "canary": {"n": 100, "k": 60},
                    }
                ]
            ),
            4,
            "verdicts.errors.outcome",
        ),
        (0, lambda d: d["spec"]["analysis"].update(falseRollback=0.4), 0, "settings_hash"),
    ],
)
def test_replay_names_the_first_look_and_field_that_differ(
    number: int, change: Callable[[dict[str, Any]], None], look: int, field: str
) -> None:
    found = parse_record(changed(number, change), where="record")
    assert found is not None
    outcome = replay(found)
    assert outcome.difference is not None
    assert (outcome.difference.look, outcome.difference.field) == (look, field)


def test_a_line_that_a_crash_cut_off_is_not_counted() -> None:
    whole = content()
    found = parse_record(whole[:-30], where="record")
    assert found is not None
    assert len(found.looks) == 11
    assert found.cut_bytes == len(whole.splitlines(keepends=True)[-1]) - 30
    assert replay(found).difference is None
    # Cut anywhere, the rest is a record of fewer looks.
    for length in range(1, len(whole), 997):
        cut = parse_record(whole[:length], where="record")
        assert cut is None or len(cut.looks) <= 12


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: lines.__setitem__(4, b"{]\n"), "record: line 5: not a LookLine"),
        (lambda lines: lines.__setitem__(4, b"{}\n"), "record: line 5"),
        (lambda lines: lines.__setitem__(0, b"\xff\n"), "record: line 1: not a Header"),
        (lambda lines: lines.pop(4), "line 5: look 5 stands where look 4 should"),
        (lambda lines: lines.insert(4, lines[4]), "line 6: look 4 stands where look 5"),
        (
            lambda lines: lines.__setitem__(
                4, lines[4].replace(spec().settings_hash().encode(), b"x")
            ),
            "line 5: decided under settings x",
        ),
    ],
)
def test_damage_names_its_line(change: Callable[[list[bytes]], None], words: str) -> None:
    lines = content().splitlines(keepends=True)
    change(lines)
    with pytest.raises(InvalidInputError, match=words):
        parse_record(b"".join(lines), where="record")


def test_a_record_of_another_schema_is_called_that_and_not_damaged() -> None:
    lines = [json.loads(line) for line in content().splitlines()]
    lines[0]["schema_version"] = "1"
    same_lines = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    assert parse_record(same_lines, where="record") is not None
    # In schema 1 a cursor had no segments.
    lines[2]["cursor"] = [row[:4] + row[5:] for row in lines[2]["cursor"]]
    old = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    with pytest.raises(InvalidInputError, match=r"line 3: written in schema 1.* reads 2") as caught:
        parse_record(old, where="record")
    assert "damaged" not in str(caught.value)
    lines[0]["schema_version"] = "2"
    damaged = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    with pytest.raises(InvalidInputError, match=r"line 3: not a LookLine.*damaged"):
        parse_record(damaged, where="record")


def test_a_record_that_is_not_there_or_empty(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such record"):
        read_record(tmp_path / "none.jsonl")
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    with pytest.raises(InvalidInputError, match="not even a header"):
        read_record(empty)


def test_fields_of_a_newer_writer_are_kept() -> None:
    found = parse_record(changed(3, lambda d: d.update(newer=1)), where="record")
    assert found is not None
    assert json.loads(to_line(found.looks[2]))["newer"] == 1


def test_the_explanation_tells_it_in_order() -> None:
    text = explain(record())
    assert "Rollout next-basket: v2 against v1" in text
    assert "errors: tolerable up to 1.5 times the stable rate, or up to 1.000%" in text
    parts = ["Advanced from 0 % to 5 %", "MetricsStale", "Advanced from 5 % to 50 %", "Promoted"]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert "weight        ▁" in text
    failed = explain(record(bad=True))
    assert "Rolled back: from 5 % to 0 %" in failed
    assert "errors: fail: at least" in failed


def test_a_record_without_looks_and_one_cut_off_can_be_explained() -> None:
    assert "No look was taken yet" in explain(record(looks=0))
    cut = parse_record(content()[:-5], where="record")
    assert cut is not None
    assert "cut off by a crash" in explain(cut)


def test_a_long_record_is_thinned_to_the_width_of_a_terminal() -> None:
    picture = next(line for line in explain(record(looks=200)).splitlines() if "weight  " in line)
    assert len(picture) < 100


# -- the chain ---------------------------------------------------------------------------------


def chained_lines() -> list[bytes]:
    header, *looks = content().splitlines(keepends=True)
    found = [header]
    for line in looks:
        entry = LookLine.model_validate_json(line)
        found.append(to_line(entry, line_hash(found[-1])))
    return found


def test_a_chain_is_whole_and_its_tip_is_the_hash_of_the_last_line() -> None:
    lines = chained_lines()
    record = parse_record(b"".join(lines), where="r")
    assert record is not None
    assert record.chained
    assert record.tip == line_hash(lines[-1])
    assert replay(record).difference is None


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_a_change_that_decides_nothing_is_found_by_the_line_after_it(number: int) -> None:
    lines = chained_lines()
    key = b'"generation":1' if number == 0 else b'"message":"'
    other = b'"generation":2' if number == 0 else b'"message":"x'
    assert key in lines[number]
    lines[number] = lines[number].replace(key, other, 1)
    with pytest.raises(InvalidInputError, match=f"line {number + 2}.*was changed"):
        parse_record(b"".join(lines), where="r")


def test_lines_that_were_swapped_out_of_a_chain_are_found() -> None:
    lines = chained_lines()
    unchained = content().splitlines(keepends=True)
    with pytest.raises(InvalidInputError, match="was changed"):
        parse_record(b"".join([*lines[:3], *unchained[3:]]), where="r")
    with pytest.raises(InvalidInputError, match="a chained line follows one that is not"):
        parse_record(b"".join([*unchained[:3], *lines[3:]]), where="r")


def test_the_last_line_is_vouched_for_by_a_tip_that_was_noted() -> None:
    lines = chained_lines()
    whole = parse_record(b"".join(lines), where="r")
    cut = parse_record(b"".join(lines[:-1]), where="r")
    assert whole is not None
    assert cut is not None
    assert cut.tip != whole.tip
