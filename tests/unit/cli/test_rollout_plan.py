"""``davy rollout plan``: what it prints, how it ends, what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from davy.cli.rollout import app
from davy.core.errors import ConfigurationError, InvalidInputError, UnavailableError
from davy.rollout.verdict import Counts

SPEC = """
apiVersion: davylamp.dev/v1alpha1
kind: ModelRollout
metadata: {name: next-basket}
spec:
  candidate: {version: v2}
  steps: [{weight: 5}, {weight: 50}]
  analysis:
    interval: 30s
    deadline: 4h
    indicators: [{name: errors, ratio: 1.5, allowance: 0.001}]
    prometheus: {url: "http://127.0.0.1:9"}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "rollout.yaml"
    path.write_text(SPEC)
    return path


def plan(spec: Path, *more: str) -> Any:
    return CliRunner().invoke(app, ["plan", str(spec), "--runs", "20", *more])


def test_a_plan_that_suffices_fits_a_terminal_and_ends_with_0(spec: Path) -> None:
    picture = spec.parent / "plan.html"
    result = plan(spec, "--rate", "200", "--events", "errors=0.0001", "--picture", str(picture))
    assert result.exit_code == 0
    assert "200 requests a second (as said)" in result.stdout
    assert "leaves   5 % after" in result.stdout
    said = [line for line in result.stdout.splitlines() if not line.startswith("picture:")]
    assert max(len(line) for line in said) <= 80
    assert "<svg" in picture.read_text()


def test_a_plan_that_cannot_suffice_says_so_and_ends_with_1(spec: Path) -> None:
    result = plan(spec, "--rate", "3")
    assert result.exit_code == 1
    assert "THE DEADLINE OF 4 h IS TOO SHORT" in " ".join(result.stdout.split())


def test_the_same_seed_prints_the_same(spec: Path) -> None:
    first, again, other = (plan(spec, "--rate", "50", "--seed", seed).stdout for seed in "112")
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ([], ConfigurationError, "--rate: the traffic is not known"),
        (["--rate", "0"], InvalidInputError, "no requests to plan on"),
        (["--rate", "5", "--events", "errors"], ConfigurationError, "not INDICATOR=SHARE"),
        (["--rate", "5", "--events", "sloth=0.1"], ConfigurationError, "known: contract, errors"),
        (["--stable", "v1"], UnavailableError, "does not answer"),
    ],
)
def test_what_it_cannot_plan_on_is_named(
    spec: Path, options: list[str], error: type[Exception], said: str
) -> None:
    result = plan(spec, *options)
    assert isinstance(result.exception, error)
    assert said in str(result.exception)


def test_a_spec_without_indicators_asks_for_the_package(spec: Path) -> None:
    text = SPEC.replace("    indicators: [{name: errors, ratio: 1.5, allowance: 0.001}]\n", "")
    spec.write_text(text)
    found = plan(spec, "--rate", "5").exception
    assert isinstance(found, ConfigurationError)
    assert "--package FOLDER" in str(found)


def test_an_earlier_record_says_the_traffic(tmp_path: Path, write_record: Any) -> None:
    # 2,000 requests a look of 30 s once the canary serves; 100 at the first, which asks for it.
    write_record(tmp_path / "r", looks=3)
    picture = tmp_path / "plan.svg"
    result = plan(tmp_path / "r", "--picture", str(picture))
    said = " ".join(result.stdout.split())
    assert "Traffic: 45.56 requests a second (as in" in said
    assert "errors: stable arm 0.1" in said
    assert "<svg" in picture.read_text()


def test_rows_and_copies_are_no_traffic(tmp_path: Path, write_record: Any) -> None:
    more = {
        "outliers": Counts(90_000, 0, 5_000, 0),
        "shadow-errors": Counts(0, 0, 9_000, 0),
    }
    write_record(tmp_path / "rows", looks=3, also=more)
    write_record(tmp_path / "none", looks=3)
    said = [plan(tmp_path / name).stdout.splitlines()[0] for name in ("rows", "none")]
    assert said[0].split("(")[0] == said[1].split("(")[0]
