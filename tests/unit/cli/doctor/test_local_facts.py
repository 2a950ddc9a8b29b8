"""What is looked up on this machine."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from davy.cli.doctor.finding import Finding, Level
from davy.cli.doctor.local_facts import key_fact, look
from davy.core.clock import ManualClock
from davy.packaging.sign import generate_keys


def by_check(environ: dict[str, str] | None = None) -> dict[str, Finding]:
    found = look(ManualClock(datetime(2200, 1, 1, tzinfo=UTC)), environ or {})
    names = [item.check for item in found]
    assert len(names) == len(set(names))
    return {item.check: item for item in found}


def test_this_environment_has_what_its_extras_ask_for() -> None:
    found = by_check()
    assert found["python"].level == Level.OK
    assert found["libraries"].level == Level.OK
    assert found["extra operator"].level == Level.OK
    assert "extra dev" not in found
    assert found["keys"].level == Level.SKIP


def test_a_port_that_something_listens_on_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv("DAVY_OPERATOR_PORT", str(port))
        found = by_check({"DAVY_OPERATOR_PORT": str(port)})["port operator"]
    assert found.level == Level.WARN
    assert f"127.0.0.1:{port}: address already in use" in found.says


def test_a_misspelt_setting_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAVY_OPERATOR_LEESE", "x")
    found = by_check({"DAVY_OPERATOR_LEESE": "x"})["settings operator"]
    assert found.level == Level.FAIL
    assert "DAVY_OPERATOR_LEESE" in found.says


def test_a_private_key_in_the_place_of_the_public_one_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    private, _ = generate_keys(tmp_path)
    monkeypatch.setenv("DAVY_OPERATOR_PUBLIC_KEY", str(private))
    found = by_check({"DAVY_OPERATOR_PUBLIC_KEY": str(private)})["key DAVY_OPERATOR_PUBLIC_KEY"]
    assert found.level == Level.FAIL
    assert "private key" in found.says


def test_kinds_of_key_files(tmp_path: Path) -> None:
    private, public = generate_keys(tmp_path)
    text = tmp_path / "text"
    text.write_text("no key")
    assert key_fact("S", private).kind == "private"
    assert key_fact("S", private).mode == 0o600
    assert key_fact("S", public).kind == "public"
    assert key_fact("S", text).kind == "unreadable"
    assert key_fact("S", tmp_path / "none").kind == "missing"
