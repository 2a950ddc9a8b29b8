"""Rivals' environments, and the variables that a benchmark's programs get."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.benchmarks.environment import NotInstalledError, inherited, interpreter


class RecordedInstaller:
    """Stands in for uv: keeps the commands, makes the interpreter, fails on request."""

    def __init__(self, *, fails: bool = False) -> None:
        self.commands: list[Sequence[str]] = []
        self.fails = fails

    def __call__(self, command: Sequence[str]) -> None:
        self.commands.append(command)
        if command[1] == "venv":
            python = Path(command[-1]) / "bin" / "python"
            python.parent.mkdir(parents=True, exist_ok=True)
            python.touch()
        elif self.fails:
            raise NotInstalledError("no network")


def test_an_environment_is_made_once(tmp_path: Path) -> None:
    run = RecordedInstaller()
    for _ in range(2):
        python = interpreter("rival-1", ("rival==1",), tmp_path, run)
    assert python == tmp_path / "rival-1" / "bin" / "python"
    assert [command[1] for command in run.commands] == ["venv", "pip"]
    assert run.commands[1][-1] == "rival==1"


def test_an_environment_that_was_broken_off_is_made_anew(tmp_path: Path) -> None:
    with pytest.raises(NotInstalledError, match="no network"):
        interpreter("rival-1", ("rival==1",), tmp_path, RecordedInstaller(fails=True))
    assert (tmp_path / "rival-1" / "bin" / "python").exists()
    run = RecordedInstaller()
    interpreter("rival-1", ("rival==1",), tmp_path, run)
    assert len(run.commands) == 2


def test_settings_of_the_shell_do_not_reach_what_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DAVY_PREDICTOR_THREADS", "9")
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "somewhere")
    monkeypatch.setenv("OTHER", "kept")
    assert inherited()["OTHER"] == "kept"
    assert not [name for name in inherited() if name.startswith(("DAVY_", "PROMETHEUS_"))]
