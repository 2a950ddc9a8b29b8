"""``davy rollout``: what it prints and how it ends."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from davy.cli.rollout import app
from davy.core.errors import (
    ConfigurationError,
    ConflictError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
)
from davy.rollout.decide import decide
from davy.rollout.record import Header, LookLine, line_hash, look_line, to_line
from davy.rollout.spec import RolloutSpec
from davy.rollout.state import Observation, State
from davy.rollout.verdict import Counts

START = datetime(2017, 1, 2, tzinfo=UTC)


@pytest.fixture
def record(tmp_path: Path) -> Path:
    spec = RolloutSpec.model_validate(
        {
            "candidate": {"version": "v2"},
            "steps": [{"weight": 5}],
            "analysis": {"indicators": [{"name": "errors", "allowance": 0.01}], "vetoes": []},
        }
    )
    header = Header(
        time=START,
        rollout="next-basket",
        generation=1,
        settings_hash=spec.settings_hash(),
        spec=spec.document(),
        stable="v1",
        canary="v2",
        latency_objective_seconds=0.1,
    )
    lines, state = [to_line(header)], State()
    for look in range(4):
        now = START + timedelta(seconds=30 * look)
        seen = Observation(weight=state.weight, counts={"errors": Counts(1900, 0, 100, 40)})
        decision = decide(spec, state, seen, now)
        lines.append(to_line(look_line(header, state.weight, seen, decision, now)))
        state = decision.state
    path = tmp_path / "record.jsonl"
    path.write_bytes(b"".join(lines))
    return path


def test_replay_says_that_all_looks_agree(record: Path) -> None:
    result = CliRunner().invoke(app, ["replay", str(record)])
    assert result.exit_code == 0
    assert "4 looks recomputed, all the same" in result.stdout


@pytest.mark.parametrize("word", ["chained", "unchained"])
def test_replay_and_explain_say_whether_the_lines_are_chained(record: Path, word: str) -> None:
    if word == "chained":
        found = record.read_bytes().splitlines(keepends=True)
        for number, line in enumerate(found[1:], start=1):
            look = LookLine.model_validate_json(line)
            found[number] = to_line(look, line_hash(found[number - 1]))
        record.write_bytes(b"".join(found))
    assert f"; {word}\n" in CliRunner().invoke(app, ["replay", str(record)]).stdout
    assert f"; {word}\n" in CliRunner().invoke(app, ["explain", str(record)]).stdout


def test_replay_fails_at_the_first_difference(record: Path) -> None:
    record.write_bytes(record.read_bytes().replace(b'"k":40', b'"k":0', 1))
    result = CliRunner().invoke(app, ["replay", str(record)])
    assert isinstance(result.exception, IntegrityError)
    assert "look 1, verdicts.errors" in str(result.exception)
    assert result.exception.exit_code == 77


def test_explain_prints_sentences_and_a_picture(record: Path) -> None:
    result = CliRunner().invoke(app, ["explain", str(record)])
    assert result.exit_code == 0
    assert "Rollout next-basket: v2 against v1" in result.stdout
    assert "weight" in result.stdout


def test_explain_draws_the_bounds_and_takes_the_folder_for_the_record(record: Path) -> None:
    for name in ("bounds.svg", "bounds.html"):
        picture = record.parent / name
        result = CliRunner().invoke(app, ["explain", str(record.parent), "--picture", str(picture)])
        assert result.exit_code == 0
        assert "Replayed: all 4 decisions follow" in result.stdout
        text = picture.read_text()
        assert "tolerable 1.5" in text
        assert "allowed 1 %" in text
        assert "DOES NOT REPLAY" not in text
    bad = CliRunner().invoke(app, ["explain", str(record), "--picture", "bounds.png"]).exception
    assert isinstance(bad, InvalidInputError)
    assert "ends in .svg or .html" in str(bad)


def test_explain_flags_a_record_that_does_not_replay(record: Path) -> None:
    record.write_bytes(record.read_bytes().replace(b'"k":40', b'"k":0', 1))
    picture = record.parent / "bounds.svg"
    result = CliRunner().invoke(app, ["explain", str(record), "--picture", str(picture)])
    assert result.exit_code == 77
    assert result.stdout.startswith("WARNING: THIS RECORD DOES NOT REPLAY: look 1, verdicts.errors")
    assert "THIS RECORD DOES NOT REPLAY" in picture.read_text()


@pytest.mark.parametrize("command", ["replay", "explain"])
def test_no_record(command: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [command, str(tmp_path / "none.jsonl")])
    assert isinstance(result.exception, NotFoundError)


SPEC = """
apiVersion: davylamp.dev/v1alpha1
kind: ModelRollout
metadata: {name: next-basket}
spec: {candidate: {version: v2}, steps: [{weight: 5}]}
"""


def run(
    tmp_path: Path, spec: str, server: str = "v1=http://127.0.0.1:1", *more: str
) -> BaseException | None:
    path = tmp_path / "rollout.yaml"
    path.write_text(spec)
    arguments = [
        "run", str(path), "--state", str(tmp_path / "state"), "--stable", "v1",
        "--server", server, "--package", f"v2={tmp_path / 'none'}",
        "--traefik-file", str(tmp_path / "davy.yaml"), "--traefik-api", "http://127.0.0.1:1",
        *more,
    ]  # fmt: skip
    return CliRunner().invoke(app, arguments).exception


def test_a_metrics_port_in_use_is_named_before_anything_is_begun(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        found = run(tmp_path, SPEC, "v1=http://127.0.0.1:1", "--metrics-port", port)
    assert isinstance(found, ConflictError)
    assert f"--metrics-port: port {port} cannot be listened on" in str(found)
    assert not (tmp_path / "state").exists()


def test_run_refuses_a_misspelt_spec_a_bad_pair_and_a_missing_package(tmp_path: Path) -> None:
    misspelt = run(tmp_path, SPEC.replace("steps", "stepps"))
    assert isinstance(misspelt, InvalidInputError)
    assert "did you mean 'steps'" in str(misspelt)
    bad_pair = run(tmp_path, SPEC, server="http://127.0.0.1:1")
    assert isinstance(bad_pair, ConfigurationError)
    missing = run(tmp_path, SPEC)
    assert isinstance(missing, NotFoundError)
    # Nothing was begun.
    assert not (tmp_path / "davy.yaml").exists()
    assert not (tmp_path / "state" / "record.jsonl").exists()
