"""The command: what is printed, and its exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from davy.cli.doctor.command import app
from davy.core.errors import ConfigurationError


def test_this_machine_as_text_and_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAVY_OPERATOR_LEESE", raising=False)
    text = CliRunner().invoke(app, [])
    report = json.loads(CliRunner().invoke(app, ["-o", "json"]).stdout)
    assert text.exit_code == report["exit_code"]
    assert text.stdout.startswith("ok    davy")
    assert [item["check"] for item in report["findings"]][:2] == ["davy", "python"]


def test_a_failure_is_exit_code_78(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAVY_OPERATOR_LEESE", "x")
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 78
    assert "fail  settings operator" in result.stdout


def test_a_context_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    result = CliRunner().invoke(app, ["--context", "other"])
    assert isinstance(result.exception, ConfigurationError)
