"""What a report says as a whole."""

from __future__ import annotations

import json

import pytest

from davy.cli.doctor.finding import (
    Finding,
    Level,
    as_json,
    as_text,
    exit_code,
    fail,
    ok,
    skip,
    warn,
)


@pytest.mark.parametrize("level", [Level.WARN, Level.FAIL])
def test_what_is_not_good_names_a_remedy(level: Level) -> None:
    with pytest.raises(ValueError, match="needs a remedy"):
        Finding("clock", level, "is wrong")


def test_only_a_failure_changes_the_exit_code() -> None:
    good = [ok("a", "b"), skip("a", "b"), warn("a", "b", "c")]
    assert exit_code(good) == 0
    assert exit_code([*good, fail("a", "b", "c")]) == 78


def test_the_text_has_a_line_a_check_and_its_remedy_below() -> None:
    text = as_text([ok("python", "3.11.7"), fail("a longer name", "is off", "turn it on")])
    assert text.splitlines() == [
        "ok    python         3.11.7",
        "fail  a longer name  is off",
        "                     → turn it on",
        "1 ok, 0 skip, 0 warn, 1 fail",
    ]


def test_json_says_the_same() -> None:
    document = json.loads(as_json([warn("clock", "is late", "set it")]))
    assert document == {
        "findings": [
            {"check": "clock", "level": "warn", "says": "is late", "remedy": "set it"},
        ],
        "exit_code": 0,
    }
