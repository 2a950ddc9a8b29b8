"""``davy rollout pause | resume | promote | rollback`` of a rollout that runs here, or ran."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
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
from davy.rollout.orders import Order
from davy.rollout.ports import GateFacts
from davy.rollout.record_file import read_record
from davy.rollout.replay import replay
from davy.rollout.spec import RolloutSpec
from davy.rollout.standing import Standing
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


@dataclass
class StandInClusterRollouts:
    """A cluster with one rollout, as the commands see it."""

    phase: str
    orders: list[str] = field(default_factory=list)

    def standing(self, name: str) -> Standing:
        return Standing(
            name=name, stable="v1", canary="v2", phase=self.phase, reason="", message="",
            weight=5, weight_read=5, step=1, steps=(5,),
        )  # fmt: skip

    def order(self, name: str, order: Order) -> None:
        self.orders.append(order.kind)


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


def test_what_ended_otherwise_before_it_was_read_is_not_done(
    tmp_path: Path, write_record: Write
) -> None:
    """The process still holds its folder, and reads no order any more."""
    write_record(tmp_path, looks=60, bad=50)
    assert read_record(tmp_path / "record.jsonl").phase == Phase.ROLLED_BACK
    with FolderJournal(tmp_path):
        promoted = ask("promote", str(tmp_path), "--because", "x", "--by", "on call")
        found = promoted.exception
        assert isinstance(found, ConflictError), promoted.stdout
        assert "promote was not done: it had ended before: RolledBack" in str(found)
        back = ask("rollback", str(tmp_path), "--because", "x", "--by", "on call")
        assert (back.exit_code, back.stdout) == (0, "it had ended before: RolledBack\n")


@pytest.mark.parametrize("phase", ["Failed", "RolledBack", "Promoted"])
@pytest.mark.parametrize("kind", ["pause", "resume", "promote", "rollback"])
def test_nothing_is_asked_of_a_rollout_on_a_cluster_that_nobody_looks_at_any_more(
    monkeypatch: pytest.MonkeyPatch, kind: str, phase: str
) -> None:
    rollouts = StandInClusterRollouts(phase)
    monkeypatch.setattr("davy.cli.rollout_target.on_cluster", lambda *_: rollouts)
    monkeypatch.setattr("davy.cli.rollout_orders.on_cluster", lambda *_: rollouts)
    asked = ask(kind, "next-basket", "-n", "shop", "--because", "x", "--by", "on call")
    assert isinstance(asked.exception, ConflictError), asked.stdout
    assert f"it has ended: {phase}" in str(asked.exception)
    assert rollouts.orders == []
    rollouts.phase = "Progressing"
    assert ask(kind, "next-basket", "-n", "shop", "--because", "x", "--by", "o").exit_code == 0
    assert rollouts.orders == [kind]


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
