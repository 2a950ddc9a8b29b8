"""``davy rollout status`` and ``watch``: what is shown of a rollout, once and live."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.fixtures.signals import as_from_a_terminal
from typer.testing import CliRunner

from davy.cli.rollout import app
from davy.cli.rollout_view import LookLines, row, view
from davy.cli.rollout_watch import lines
from davy.core.errors import ConfigurationError, NotFoundError, UnavailableError
from davy.rollout.adapters.folder_rollouts import FolderRollouts
from davy.rollout.decide import Decision, decide
from davy.rollout.record_file import read_record
from davy.rollout.standing import Standing
from davy.rollout.state import Observation, State
from davy.rollout.verdict import Counts

LATER = datetime(2017, 1, 2, tzinfo=UTC) + timedelta(minutes=5)
# Writes a record by the gate's own decisions; a fixture of this folder.
Write = Callable[..., Path]


def standing(folder: Path) -> Standing:
    return FolderRollouts(folder).standing(".")


def shown(folder: Path) -> str:
    return "\n".join(view(standing(folder), LATER))


def test_status_shows_weights_bounds_and_what_is_still_needed(
    tmp_path: Path, write_record: Write
) -> None:
    write_record(tmp_path, looks=5)
    result = CliRunner().invoke(app, ["status", str(tmp_path)])
    assert result.exit_code == 0
    text = shown(tmp_path)
    assert "next-basket: v2 against v1" in text
    assert "5 %, read back: 5 %" in text
    assert "[5], 50 %" in text
    assert "errors: inconclusive  0 in 400 requests" in text
    assert "(≤ 1.5)" in text
    assert "(≤ 1 %)" in text
    assert "canary   3.33 requests a second" in text
    # 400 of the about 520 that no error in 1 % takes.
    needed = standing(tmp_path).indicators[0].needed
    assert needed is not None
    assert needed.requests is not None
    assert 80 < needed.requests < 160
    assert needed.seconds == pytest.approx(needed.requests * 0.3)
    assert f"about {needed.requests} more canary requests" in text
    assert "then: pass" in text


def test_rows_are_no_requests_and_take_the_time_that_rows_take(
    tmp_path: Path, write_record: Write
) -> None:
    limits = [{"name": "errors", "allowance": 0.01}, {"name": "outliers", "allowance": 0.0001}]
    analysis = {"indicators": limits, "vetoes": []}
    rows = {"outliers": Counts(95_000, 4, 5_000, 0)}
    write_record(tmp_path, looks=4, also=rows, analysis=analysis)
    found = standing(tmp_path)
    assert found.canary_rate == pytest.approx(100 / 30)
    errors, outliers = (item.needed for item in found.indicators)
    assert errors and errors.requests and outliers and outliers.requests
    assert errors.seconds == pytest.approx(errors.requests / (100 / 30))
    assert outliers.seconds == pytest.approx(outliers.requests / (5_000 / 30))


def test_what_is_needed_comes_true(tmp_path: Path, write_record: Write) -> None:
    """The forecast after 4 intervals is right to an interval about when the verdict comes."""
    write_record(tmp_path, looks=5)
    needed = standing(tmp_path).indicators[0].needed
    assert needed is not None
    assert needed.requests is not None
    intervals = -(-needed.requests // 100)
    write_record(tmp_path / "b", looks=5 + intervals)
    assert standing(tmp_path / "b").weight == 50
    write_record(tmp_path / "a", looks=4 + intervals)
    assert standing(tmp_path / "a").weight == 5


@pytest.mark.parametrize(("looks", "bad"), [(0, 0), (1, 0), (3, 1), (3, 60), (9, 0), (300, 1)])
def test_the_view_fits_80_columns_whatever_was_seen(
    tmp_path: Path, looks: int, bad: int, write_record: Write
) -> None:
    write_record(tmp_path, looks=looks, bad=bad)
    text = shown(tmp_path)
    assert max(len(line) for line in text.splitlines()) <= 80
    if looks == 0:
        assert "Pending (NotBegun)" in text


def test_several_are_a_line_each_and_json_holds_them_all(
    tmp_path: Path, write_record: Write
) -> None:
    write_record(tmp_path / "better", looks=3, name="better")
    write_record(tmp_path / "worse", looks=4, bad=60, name="worse")
    text = CliRunner().invoke(app, ["status", str(tmp_path)]).stdout
    assert [line.split()[:2] for line in text.splitlines()] == [
        ["better", "Progressing"],
        ["worse", "RolledBack"],
    ]
    result = CliRunner().invoke(app, ["status", str(tmp_path / "worse"), "--json"])
    document = json.loads(result.stdout)
    assert (document["phase"], document["indicators"][0]["outcome"]) == ("RolledBack", "fail")


def test_where_nothing_is_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = CliRunner().invoke(app, ["status", str(tmp_path)]).exception
    assert isinstance(found, NotFoundError)
    assert "no decision record here" in str(found)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setattr(
        "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none")
    )
    unknown = CliRunner().invoke(app, ["status", "next-basket"]).exception
    assert isinstance(unknown, ConfigurationError)
    assert "no cluster is configured" in str(unknown)


def test_a_missing_client_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    found = CliRunner().invoke(app, ["status"]).exception
    assert "pip install 'davylamp[operator]'" in str(found)


def test_watch_in_a_pipe_writes_what_happens_once_until_the_end(
    tmp_path: Path, write_record: Write
) -> None:
    write_record(tmp_path, looks=4, bad=60)
    result = CliRunner().invoke(app, ["watch", str(tmp_path)])
    assert result.exit_code == 0
    told = result.stdout.splitlines()
    assert told[0].startswith("00:00:00 advanced from 0 % to 5 % (Started)")
    assert "rolled back: from 5 % to 0 % (IndicatorFailed)" in result.stdout
    assert told[-1] == "next-basket: RolledBack"
    assert len(told) == len(set(told))


def test_a_reading_that_fails_is_said_once_and_does_not_end_the_watch(
    tmp_path: Path, write_record: Write
) -> None:
    write_record(tmp_path, looks=3)
    first = standing(tmp_path)
    write_record(tmp_path, looks=4, bad=60)
    last = standing(tmp_path)
    trouble = UnavailableError("the API server does not answer")

    def seen() -> Iterator[Standing | UnavailableError]:
        yield from (first, trouble, trouble, first, last)

    told = list(lines(seen()))
    assert [line for line in told if "not read" in line] == [f"not read: {trouble}"]
    assert told[-1] == "next-basket: RolledBack"


def test_a_router_that_does_not_say_its_weight_and_a_veto_are_shown(
    tmp_path: Path, write_record: Write
) -> None:
    write_record(tmp_path, looks=3)
    found = replace(standing(tmp_path), weight_read=None, vetoes=("signature: no key",))
    text = "\n".join(view(found, LATER))
    assert "read back: not said by the router" in text
    assert "veto     signature: no key" in text
    assert row(found).startswith("next-basket          Progressing")


def decisions(path: Path) -> Iterator[Decision]:
    record, state = read_record(path), State()
    for line in record.looks:
        decision = decide(record.spec(), state, line.observation(), line.time)
        yield decision
        state = decision.state


def test_the_lines_of_a_run_count_what_repeats_itself(tmp_path: Path, write_record: Write) -> None:
    told: list[str] = []
    shown_lines = LookLines(told.append)
    for decision in decisions(write_record(tmp_path, looks=8)):
        shown_lines.show(decision)
    shown_lines.close()
    assert told[0] == "look 1: advances to 5 % (Started): both arms are ready: weight 5"
    assert told[1].startswith("look 2: holds at 5 % (Inconclusive): errors inconclusive (0 in 100)")
    assert told[2] == "  the same at 4 more looks"
    assert told[3].startswith("look 7: advances to 50 %")
    assert told[4].startswith("look 8: holds at 50 % (NotEnoughRequests)")


def test_a_look_without_a_request_says_so_and_not_infinite_bounds(
    tmp_path: Path, write_record: Write
) -> None:
    told: list[str] = []
    path = write_record(tmp_path, looks=1)
    spec, state = read_record(path).spec(), State()
    for number in range(2):
        decision = decide(spec, state, Observation(weight=state.weight), LATER)
        state = decision.state
        if number:
            LookLines(told.append).show(decision)
    assert told == ["look 2: holds at 5 % (Inconclusive): no request of the canary was counted yet"]


def test_ctrl_c_ends_a_watch_with_130_and_no_traceback(tmp_path: Path, write_record: Write) -> None:
    write_record(tmp_path, looks=3)
    command = [sys.executable, "-c", "from davy.cli.main import main; main()", "rollout", "watch"]
    with subprocess.Popen(
        [*command, str(tmp_path), "--every", "0.1"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=as_from_a_terminal,  # noqa: PLW1509
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            assert "advanced from 0 % to 5 %" in process.stdout.readline()
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "Traceback" not in said
