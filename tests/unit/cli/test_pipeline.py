from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tests.fixtures.signals import as_from_a_terminal
from typer.testing import CliRunner

from davy.cli.pipeline import app
from davy.core.errors import DavyError, InvalidInputError, NotFoundError, UnavailableError
from davy.data.task import parse_task
from davy.kubeflow import run as runs

ROOT = Path(__file__).parents[3]
TASK = str(ROOT / "pipelines/tasks/next_basket.yaml")


class StandInRun:
    """Takes the place of `run_local` and keeps what it was called with."""

    def __init__(self, error: DavyError | None = None) -> None:
        self.error = error
        self.text = ""
        self.given: dict[str, object] = {}

    def __call__(self, text: str, *, on_step: runs.OnStep, **given: object) -> Path:
        self.text, self.given = text, given
        on_step("prepare-data", "started")
        on_step("prepare-data", "done in 1.0 s")
        if self.error:
            raise self.error
        return Path("store/next_basket/2026.01.01-00000000")


def test_run_prints_a_line_a_step_and_the_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stand_in = StandInRun()
    monkeypatch.setattr(runs, "run_local", stand_in)
    key = tmp_path / "key"
    key.touch()
    result = CliRunner().invoke(
        app,
        ["run", TASK, "--store", "s", "--work", "w", "--set", "model.epochs=1",
         "--set", "model.seed=3", "--households", "20", "--key", str(key), "--parent", "v0"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.stdout == "store/next_basket/2026.01.01-00000000\n"
    assert result.stderr == "prepare-data       done in 1.0 s\n"
    task = parse_task(stand_in.text)
    assert (task.model.epochs, task.model.seed) == (1, 3)
    assert stand_in.given == {
        "store": Path("s"),
        "work": Path("w"),
        "households": 20,
        "private_key": key,
        "parent": "v0",
        "cache": False,
    }


def test_what_is_wrong_is_said_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stand_in = StandInRun()
    monkeypatch.setattr(runs, "run_local", stand_in)
    base = ["run", TASK, "--store", "s", "--work", "w"]
    cases: list[tuple[list[str], type[DavyError], str]] = [
        ([*base, "--set", "model.epoch=2"], InvalidInputError, "did you mean 'epochs'"),
        ([*base, "--key", str(tmp_path / "none")], NotFoundError, "no such private key"),
        (["run", "none.yaml", "--store", "s", "--work", "w"], NotFoundError, "no such file"),
    ]
    for arguments, kind, words in cases:
        error = CliRunner().invoke(app, arguments).exception
        assert type(error) is kind
        assert words in str(error)
    assert stand_in.given == {}


def test_a_failed_run_keeps_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "run_local", StandInRun(UnavailableError("gone")))
    result = CliRunner().invoke(app, ["run", TASK, "--store", "s", "--work", "w"])
    assert isinstance(result.exception, UnavailableError)
    assert result.stdout == ""


def test_compile_writes_the_named_file(tmp_path: Path) -> None:
    out = tmp_path / "pipeline.yaml"
    result = CliRunner().invoke(app, ["compile", TASK, "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(out)
    assert "next-basket" in out.read_text(encoding="utf-8")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_run_that_is_ended_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    command = ["pipeline", "run", TASK, "--store", str(tmp_path / "store"), "--work",
               str(tmp_path / "work"), "--households", "5"]  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-c", "from davy.cli.main import main; main()", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=as_from_a_terminal,  # noqa: PLW1509
    ) as run:
        family = _family_at_work(run, tmp_path / "work" / runs.LOG_NAME)
        run.send_signal(number)
        _, left = psutil.wait_procs(family, timeout=3.0)
        for process in left:
            process.kill()
    assert [process.pid for process in left] == []
    if number is not signal.SIGKILL:
        assert list((tmp_path / "work").glob(".run-*")) == []


def _family_at_work(run: subprocess.Popen[bytes], log: Path) -> list[psutil.Process]:
    """Return the run, the process in which kfp runs, and those of the first step."""
    parent = psutil.Process(run.pid)
    for _ in range(1200):
        family = parent.children(recursive=True)
        if log.is_file() and "Executing task" in log.read_text() and len(family) > 1:
            return [parent, *family]
        time.sleep(0.05)
    run.kill()
    raise AssertionError("no step has begun")
