"""What follows from the facts of a machine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from davy.cli.doctor import local
from davy.cli.doctor.finding import Level
from davy.cli.doctor.local import KeyFact, PortFact

NOW = datetime(2026, 1, 1, tzinfo=UTC)
REQUIREMENTS = [
    "numpy<2,>=1.26",
    "scipy>=1.13; extra == 'native'",
    "alibi-detect==0.13.0; extra == 'monitor'",
    "scipy>=1.13; extra == 'monitor'",
]


@pytest.mark.parametrize(
    ("version", "level"),
    [("3.11.7", Level.OK), ("3.12.0", Level.OK), ("3.13.0", Level.FAIL), ("3.10.1", Level.FAIL)],
)
def test_a_python_that_is_not_supported_fails(version: str, level: Level) -> None:
    assert local.python(version, ">=3.11,<3.13").level == level


def test_files_without_a_distribution_fail() -> None:
    assert local.davy(None).level == Level.FAIL
    assert local.davy("0.1.0").says == "0.1.0"


def judged(name: str, **installed: str) -> tuple[Level, str]:
    versions = {key.replace("_", "-"): value for key, value in installed.items()}
    (found,) = local.extras([name], REQUIREMENTS, versions)
    return found.level, found.says


def test_an_extra_that_is_not_installed_is_no_failure_and_says_what_it_lacks() -> None:
    assert judged("monitor", numpy="1.26.4", scipy="1.14") == (
        Level.SKIP,
        "not installed: lacks alibi-detect",
    )
    assert judged("native", scipy="1.14") == (Level.OK, "1 library")


def test_a_version_that_an_extra_does_not_allow_fails() -> None:
    level, says = judged("monitor", alibi_detect="0.4.4", scipy="1.14")
    assert level == Level.FAIL
    assert "alibi-detect 0.4.4 is not ==0.13.0" in says


def test_what_every_role_needs_must_be_there() -> None:
    assert judged("") == (Level.FAIL, "lacks numpy")
    assert judged("", numpy="2.1") == (Level.FAIL, "numpy 2.1 is not <2,>=1.26")
    assert judged("", numpy="1.26.4") == (Level.OK, "1 library")


def test_a_port_that_is_taken_warns_and_names_the_setting() -> None:
    fact = PortFact("detector", "127.0.0.1", 8090, "DAVY_DETECTOR_PORT")
    assert local.port(fact).level == Level.OK
    taken = local.port(
        PortFact("detector", "127.0.0.1", 8090, "DAVY_DETECTOR_PORT", "address in use")
    )
    assert taken.level == Level.WARN
    assert "DAVY_DETECTOR_PORT" in taken.remedy


def test_settings_that_do_not_load_fail_with_their_error() -> None:
    assert local.settings("detector", "").level == Level.OK
    found = local.settings("detector", "unknown setting DAVY_DETECTOR_PROT")
    assert (found.level, found.says) == (Level.FAIL, "unknown setting DAVY_DETECTOR_PROT")


def test_a_clock_before_the_installed_files_fails() -> None:
    assert local.clock(NOW, NOW - timedelta(days=1)).level == Level.OK
    assert local.clock(NOW, NOW + timedelta(seconds=1)).level == Level.FAIL


@pytest.mark.parametrize(
    ("kind", "level"),
    [
        ("public", Level.OK),
        ("missing", Level.FAIL),
        ("unreadable", Level.FAIL),
        ("private", Level.FAIL),
    ],
)
def test_a_key_is_there_public_and_a_key(kind: str, level: Level) -> None:
    (found,) = local.keys([KeyFact("DAVY_OPERATOR_PUBLIC_KEY", Path("/keys/it"), kind, 0o600)])
    assert found.level == level
    assert "DAVY_OPERATOR_PUBLIC_KEY" in found.check


def test_a_private_key_that_others_may_read_is_said_so() -> None:
    (found,) = local.keys([KeyFact("X", Path("k"), "private", 0o644)])
    assert "others may read it" in found.says
    (own,) = local.keys([KeyFact("X", Path("k"), "private", 0o600)])
    assert "others may read it" not in own.says


def test_no_key_is_skipped() -> None:
    (found,) = local.keys([])
    assert found.level == Level.SKIP


def test_the_licence_is_named_where_the_engine_is_alibi_detect() -> None:
    assert local.licence("native", True).level == Level.OK
    assert local.licence("alibi", False).level == Level.SKIP
    found = local.licence("alibi", True)
    assert found.level == Level.WARN
    assert "Business Source License" in found.says
    assert "native" in found.remedy
