"""The root of the command line: version, the plugin's name, errors and Ctrl-C as exit codes."""

from __future__ import annotations

import sys
from importlib.metadata import version

import pytest
import typer
from typer.testing import CliRunner

from davy.cli import main as root
from davy.core.errors import ConflictError


def called(monkeypatch: pytest.MonkeyPatch, program: str, *arguments: str) -> int | str | None:
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    with pytest.raises(SystemExit) as ended:
        root.main()
    return ended.value.code


def test_the_version_is_that_of_the_distribution() -> None:
    result = CliRunner().invoke(root.build(), ["--version"])
    assert result.exit_code == 0
    assert result.stdout == f"davy {version('davylamp')}\n"


@pytest.mark.parametrize(
    ("program", "name"), [("bin/davy", "davy"), ("bin/kubectl-davy", "kubectl davy")]
)
def test_usage_names_the_program_as_it_was_called(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], program: str, name: str
) -> None:
    assert called(monkeypatch, program, "rollout", "--help") == 0
    assert f"Usage: {name} rollout [OPTIONS]" in capsys.readouterr().out


def stand_in_part(error: BaseException) -> typer.Typer:
    app = typer.Typer()

    @app.command()
    def fail() -> None:
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConflictError("held", where="here", fix="Wait"), 73, "error: here: held. Wait\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_an_error_is_a_line_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    said: str,
) -> None:
    monkeypatch.setattr(root, "build", lambda: stand_in_part(error))
    assert called(monkeypatch, "davy") == code
    assert capsys.readouterr().err == said


def test_ctrl_c_while_the_parts_are_imported_is_130_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> typer.Typer:
        raise KeyboardInterrupt

    monkeypatch.setattr(root, "build", interrupted)
    assert called(monkeypatch, "davy") == 130
