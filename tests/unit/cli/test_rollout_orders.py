"""``davy rollout pause | resume | promote | rollback`` of a rollout that runs here, or ran."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from davy.cli.rollout import app
from davy.core.clock import SystemClock
from davy.core.errors import (
    ConfigurationError,
    ConflictError,
    DeadlineError,
    InvalidInputError,
    NotFoundError,
)
from davy.packaging.contract import GateDefault
from davy.rollout.adapters.folder_journal import FolderJournal
from davy.rollout.adapters.folder_orders import FolderOrders
from davy.rollout.adapters.memory import DryRunTraffic, StatedPackages
from davy.rollout.engine import Engine
from davy.rollout.ports import GateFacts
from davy.rollout.record_file import read_record
from davy.rollout.replay import replay
from davy.rollout.spec import RolloutSpec
from davy.rollout.state import Phase

Write = Callable[..., Path]
SPEC = RolloutSpec.model_validate(
    {
        "candidate": {"version": "v2"},
        "steps": [{"weight": 5}],
        "analysis": {"interval": "0.1s", "deadline": "10m", "vetoes": []},
    }
)
FACTS = GateFacts(0.1, (GateDefault(name="errors", ratio=1.5, allowance=0.01),))


class StandInMetrics:
    """A Prometheus without a series: nothing is ever decided on it."""

    def series(self, arms: Any, since: float | None) -> list[Any]:
        return []


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Path]:
    """The folder of a rollout that an engine holds, in a thread of this process."""
    folder, stop = tmp_path / "state", threading.Event()
    with FolderJournal(folder) as journal:
        engine = Engine(
            SPEC,
            name="next-basket",
            stable="v1",
            traffic=DryRunTraffic(),
            metrics=StandInMetrics(),
            journal=journal,
            packages=StatedPackages(FACTS),
            clock=SystemClock(),
            orders=FolderOrders(folder),
        )
        engine.look()
        thread = threading.Thread(target=lambda: engine.run(stop=stop))
        thread.start()
        yield folder
        stop.set()
        thread.join()


def ask(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def test_pause_and_resume_reach_a_rollout_that_runs(running: Path) -> None:
    asked = ask("pause", str(running), "--because", "odd logs", "--by", "on call")
    assert asked.exit_code == 0
    assert asked.stdout == "pause was asked for, and is done at the next look\n"
    assert ask("resume", str(running), "--because", "fine", "--by", "on call").exit_code == 0
    kinds = [(item.kind, item.by, item.because) for item in FolderOrders(running).read()]
    assert kinds == [("pause", "on call", "odd logs"), ("resume", "on call", "fine")]


@pytest.mark.parametrize(
    ("kind", "to", "phase"),
    [("promote", "v2", Phase.PROMOTED), ("rollback", "v1", Phase.ROLLED_BACK)],
)
def test_an_override_waits_until_the_rollout_has_done_it(
    running: Path, kind: str, to: str, phase: Phase
) -> None:
    done = ask(kind, str(running), "--because", "the sale begins", "--by", "on call")
    assert done.exit_code == 0, done.exception
    assert done.stdout.startswith(f"all traffic goes to {to}: the sale begins")
    assert ("without the evidence" in done.stdout) == (kind == "promote")
    record = read_record(running / "record.jsonl")
    assert record.looks[-1].decision.phase == phase
    assert replay(record).difference is None


@pytest.mark.parametrize("ahead", [-120.0, 120.0])
def test_an_override_is_done_whatever_the_clock_of_who_asks_says(
    running: Path, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    class SkewedClock(SystemClock):
        """A clock of another machine."""

        def now(self) -> datetime:
            return super().now() + timedelta(seconds=ahead)

    monkeypatch.setattr("davy.cli.rollout_orders.SystemClock", SkewedClock)
    done = ask("rollback", str(running), "--because", "x", "--by", "on call")
    assert done.exit_code == 0, done.exception
    assert done.stdout == "all traffic goes to v1: x\n"
    record = read_record(running / "record.jsonl")
    assert [line.actor for line in record.looks].count("on call") == 1


def test_an_override_that_is_not_done_in_time_says_so(tmp_path: Path, write_record: Write) -> None:
    write_record(tmp_path, looks=3)
    with FolderJournal(tmp_path):
        found = ask("rollback", str(tmp_path), "--because", "x", "--wait", "0.3").exception
    assert isinstance(found, DeadlineError)
    assert found.exit_code == 75
    assert [item.kind for item in FolderOrders(tmp_path).read()] == ["rollback"]


def test_a_rollout_that_runs_is_of_its_two_versions_only(
    tmp_path: Path, write_record: Write
) -> None:
    write_record(tmp_path, looks=3)
    with FolderJournal(tmp_path):
        found = ask("rollback", str(tmp_path), "--because", "x", "--to", "v0").exception
    assert isinstance(found, ConflictError)
    assert "a rollout of v1 and v2 runs here" in str(found)
    assert FolderOrders(tmp_path).read() == ()


@pytest.mark.parametrize("kind", ["pause", "resume"])
def test_what_has_ended_is_not_paused(tmp_path: Path, write_record: Write, kind: str) -> None:
    write_record(tmp_path, looks=4, bad=60)
    found = ask(kind, str(tmp_path), "--because", "x").exception
    assert isinstance(found, ConflictError)
    assert "it has ended: RolledBack" in str(found)


def test_a_pause_without_a_process_is_kept_for_the_next(
    tmp_path: Path, write_record: Write
) -> None:
    write_record(tmp_path, looks=3)
    assert "none runs now" in ask("pause", str(tmp_path), "--because", "x").stdout
    assert [item.kind for item in FolderOrders(tmp_path).read()] == ["pause"]


def test_nothing_is_asked_without_a_reason_a_record_or_a_router(
    tmp_path: Path, write_record: Write
) -> None:
    folder = tmp_path / "state"
    empty = ask("pause", str(folder), "--because", "x").exception
    assert isinstance(empty, NotFoundError)
    write_record(folder, looks=3)
    for options in (["--because", " "], ["--because", "x", "--by", "davy"]):
        assert isinstance(ask("pause", str(folder), *options).exception, InvalidInputError)
    assert ask("pause", str(folder)).exit_code == 2
    router = ask("promote", str(folder), "--because", "x").exception
    assert isinstance(router, ConfigurationError)
    assert "no rollout ran in this folder" in str(router)
    assert not (folder / "orders.jsonl").exists()
