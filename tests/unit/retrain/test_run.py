"""Deciding, recording and starting, with programs of the machine; nothing starts twice."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from davy.core.clock import ManualClock
from davy.core.errors import ConflictError, IntegrityError, UnavailableError
from davy.retrain.policy import Policy
from davy.retrain.record import Record
from davy.retrain.run import Processes, Ran, Retrainer

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ANSWERS = {
    "davy_performance_realised": 0.5,
    "davy_drift_active": 0.0,
    "davy_labels_joined_total": 5000.0,
    "davy_input_violations_total": 0.0,
    "davy_rollout_weight": 0.0,
}


class StandInMetrics:
    """Answers by the metric that a query names first."""

    def __init__(self, answers: dict[str, float] | None = None) -> None:
        self.answers = ANSWERS if answers is None else answers
        self.asked: list[str] = []

    def value(self, query: str) -> float | None:
        self.asked.append(query)
        places = {query.find(name): value for name, value in self.answers.items() if name in query}
        return places[min(places)] if places else None


def retrainer(folder: Path, train: str, canary: str = "", **changes: Any) -> Retrainer:
    """Return one whose programs are Python; `canary` may use ARGS."""
    heard = f"import sys; ARGS = sys.argv[1:]; {canary}"
    run = {
        "train": [sys.executable, "-c", train.replace("{", "{{").replace("}", "}}"), "{reason}"],
        "canary": [sys.executable, "-c", heard, "{package}", "{version}"],
        **changes,
    }
    fields = {"model": "m", "objective": {"metric": "f1", "at_least": 0.8}, "run": run}
    return Retrainer(
        Policy.model_validate(fields),
        StandInMetrics(),
        Record(folder / "record.jsonl"),
        Processes(),
        ManualClock(NOW),
    )


def events(folder: Path) -> list[tuple[str, str]]:
    lines = (folder / "record.jsonl").read_text().splitlines()
    return [(line["event"], line["outcome"]) for line in map(json.loads, lines)]


def makes(folder: Path) -> str:
    return (
        f"import os; os.makedirs({str(folder / 'm' / 'v2')!r}); print({str(folder / 'm' / 'v2')!r})"
    )


def test_a_new_package_enters_as_a_canary(tmp_path: Path) -> None:
    out = tmp_path / "said"
    one = retrainer(tmp_path, makes(tmp_path), f"open({str(out)!r}, 'w').write(' '.join(ARGS))")
    decision, outcome = one.once()
    assert (decision.outcome, outcome) == ("start", "trained")
    assert out.read_text() == f"{tmp_path / 'm' / 'v2'} v2"
    assert events(tmp_path) == [("decision", "start"), ("start", ""), ("end", "trained")]
    # And not again within the cooldown.
    assert one.once()[1] == "blocked"
    assert events(tmp_path)[3:] == [("decision", "blocked")]


def test_to_look_changes_nothing(tmp_path: Path) -> None:
    one = retrainer(tmp_path, makes(tmp_path))
    assert one.look().outcome == "start"
    assert list(tmp_path.iterdir()) == []


def test_the_rollout_is_made_from_its_template(tmp_path: Path) -> None:
    template = tmp_path / "template.yaml"
    template.write_text("version: $version\nuri: file://$package\n")
    one = retrainer(tmp_path, makes(tmp_path), spec=template)
    assert one.once()[1] == "trained"
    path = tmp_path / "m" / "v2"
    assert (tmp_path / "m-v2.yaml").read_text() == f"version: v2\nuri: file://{path}\n"


@pytest.mark.parametrize(
    ("train", "canary", "outcome"),
    [
        ("raise SystemExit(3)", "", "failed"),
        ("print('nothing')", "", "failed"),
        ("pass", "", "failed"),
        ("{makes}", "raise SystemExit(1)", "canary_failed"),
    ],
)
def test_what_fails_is_recorded_and_waits_too(
    tmp_path: Path, train: str, canary: str, outcome: str
) -> None:
    one = retrainer(tmp_path, train.replace("{makes}", makes(tmp_path)), canary)
    assert one.once()[1] == outcome
    assert events(tmp_path)[-1] == ("end", outcome)
    assert one.once()[1] == "blocked"


def test_a_program_that_is_not_there_is_named() -> None:
    ran = Processes().run(["/no/such/program"], 1.0)
    assert ran.code == 127
    assert "/no/such/program" in ran.errors


def test_a_program_past_its_time_is_ended_with_what_it_started() -> None:
    began = time.monotonic()
    code = "import subprocess; subprocess.run(['sleep', '60'])"
    ran = Processes().run([sys.executable, "-c", code], 0.5)
    assert ran == Ran(None, "")
    assert time.monotonic() - began < 20


def test_two_do_not_decide_by_one_record(tmp_path: Path) -> None:
    record = Record(tmp_path / "record.jsonl")
    with record.alone(), pytest.raises(ConflictError):
        retrainer(tmp_path, "pass").once()
    assert not (tmp_path / "record.jsonl").exists()


def test_a_start_without_an_end_holds_until_its_time_is_over(tmp_path: Path) -> None:
    class Killed:
        """Stands in for a process that dies while training."""

        def run(self, command: Sequence[str], seconds: float) -> Ran:
            os._exit(9)

    pid = os.fork()
    if pid == 0:
        one = retrainer(tmp_path, "pass")
        Retrainer(one.policy, one.metrics, one.record, Killed(), one.clock).once()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    assert events(tmp_path) == [("decision", "start"), ("start", "")]
    one = retrainer(tmp_path, makes(tmp_path), timeout="2d")
    clock = ManualClock(NOW + timedelta(hours=1))
    again = Retrainer(one.policy, one.metrics, one.record, one.programs, clock)
    assert "has not ended" in again.look().reason
    clock.time = NOW + timedelta(days=8)
    assert again.look().outcome == "start"


def test_an_interrupted_training_is_no_running_one(tmp_path: Path) -> None:
    class Interrupted:
        """Stands in for Ctrl-C while training."""

        def run(self, command: Sequence[str], seconds: float) -> Ran:
            raise KeyboardInterrupt

    one = retrainer(tmp_path, "pass")
    with pytest.raises(KeyboardInterrupt):
        Retrainer(one.policy, one.metrics, one.record, Interrupted(), one.clock).once()
    assert events(tmp_path)[-1] == ("end", "failed")


def test_without_metrics_nothing_is_decided(tmp_path: Path) -> None:
    class Gone(StandInMetrics):
        """Stands in for a Prometheus that is away."""

        def value(self, query: str) -> float | None:
            raise UnavailableError("away", where="http://here")

    one = retrainer(tmp_path, "pass")
    with pytest.raises(UnavailableError):
        Retrainer(one.policy, Gone(), one.record, one.programs, one.clock).once()
    assert not (tmp_path / "record.jsonl").exists()
    nothing = Retrainer(one.policy, StandInMetrics({}), one.record, one.programs, one.clock)
    assert nothing.once()[1] == "none"


@settings(deadline=None, max_examples=40)
@given(cut=st.integers(0, 400))
def test_a_record_that_a_crash_cut_off_goes_on(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    one = retrainer(folder, "raise SystemExit(1)")
    one = Retrainer(one.policy, StandInMetrics({}), one.record, one.programs, one.clock)
    one.once()
    one.once()
    path = folder / "record.jsonl"
    path.write_bytes(path.read_bytes()[: -cut or None])
    before = len(one.record.lines())
    one.once()
    assert len(one.record.lines()) == before + 1


def test_a_file_that_is_no_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "record.jsonl").write_text('{"some": "thing"}\n')
    with pytest.raises(IntegrityError, match="line 1"):
        retrainer(tmp_path, "pass").look()
