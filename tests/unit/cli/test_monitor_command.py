"""``davy monitor``: what is printed, the exit code that a script reads, the new package."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.fixtures.past_rows import DRIFT, WINDOW_ROWS, past_rows, write_calibrated_package
from typer.testing import CliRunner

from davy.cli import main as root
from davy.cli.monitor import app
from davy.core.errors import ConfigurationError, IntegrityError, InvalidInputError
from davy.packaging.package import Package
from davy.packaging.sign import generate_keys


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return write_calibrated_package(tmp_path_factory.mktemp("calibrated"))


def table(folder: Path, shifts: tuple[float, ...]) -> Path:
    """Write a window a shift, the days of the rows running backwards."""
    parts = [past_rows(WINDOW_ROWS, seed=50 + n, shift=s) for n, s in enumerate(shifts)]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    columns["day"] = -np.arange(WINDOW_ROWS * len(shifts))
    path = folder / "rows.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def run(package: Path, rows: Path, *options: str):
    return CliRunner().invoke(
        app,
        ["drift", str(package), str(rows), "--engine", "native", *options],
        env={"COLUMNS": "160"},
    )


def test_quiet_rows_end_with_0(package: Package, tmp_path: Path) -> None:
    result = run(package.path, table(tmp_path, (0, 0)))
    assert result.exit_code == 0, result.output
    assert f"tiny {package.contract.version}: 2 window(s) of 100 rows" in result.output
    assert result.output.endswith("no drift is active\n")


def test_active_drift_ends_with_1_and_is_shown(package: Package, tmp_path: Path) -> None:
    result = run(package.path, table(tmp_path, (0, DRIFT, DRIFT)))
    assert result.exit_code == 1, result.output
    assert "201-300" in result.output
    assert "ACTIVE" in result.output
    assert "median" in result.output
    assert "drift is active: amount (ks), score (ks)" in result.output
    assert "channel" not in result.output


def test_one_odd_window_is_not_active(package: Package, tmp_path: Path) -> None:
    result = run(package.path, table(tmp_path, (0, DRIFT)))
    assert result.exit_code == 0, result.output
    assert "amount (ks)" in result.output


def test_drift_that_went_away_is_told_but_not_active(package: Package, tmp_path: Path) -> None:
    result = run(package.path, table(tmp_path, (DRIFT, DRIFT, 0, 0)))
    assert result.exit_code == 0, result.output
    assert result.output.endswith("no drift is active; it was after window 2, 3\n")


def test_the_order_of_time_decides(package: Package, tmp_path: Path) -> None:
    rows = table(tmp_path, (DRIFT, DRIFT, 0, 0))
    result = run(package.path, rows, "--time", "day")
    assert result.exit_code == 1, result.output
    assert "from" in result.output
    assert "-399" in result.output


def test_all_shows_every_feature_of_every_window(package: Package, tmp_path: Path) -> None:
    result = run(package.path, table(tmp_path, (0, 0)), "--all")
    assert result.output.count("channel") == 2
    assert "window 1:" in result.output


def test_json_holds_every_verdict_and_keeps_the_exit_code(package: Package, tmp_path: Path) -> None:
    result = run(package.path, table(tmp_path, (DRIFT, DRIFT)), "--output", "json", "--time", "day")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert (report["model"], report["version"]) == ("tiny", package.contract.version)
    assert {"feature": "amount", "detector": "ks"} in report["active"]
    first = report["windows"][0]
    assert (first["first_row"], first["last_row"], first["start"]) == (1, 100, -199)
    assert {item["feature"] for item in first["features"]} == {
        "kind", "amount", "visits", "channel", "score",
    }  # fmt: skip


def test_names_in_brackets_are_shown_as_they_are(tmp_path: Path) -> None:
    null = [{"feature": "[red]", "detector": "ks", "distances": [0.1] * 99, "floor": 0.1}]
    changes = {
        "inputs": [{"name": "[red]", "datatype": "FP32"}],
        "calibration": {"window_rows": 100, "blocks": 2, "nulls": null},
    }
    folder = tmp_path / "package"
    reference = {"[red]": np.zeros(100, np.float32), "score": np.ones(100, np.float32)}
    package = write_calibrated_package(folder, reference=reference, **changes)
    pq.write_table(pa.table({"[red]": np.ones(200)}), tmp_path / "rows.parquet")
    result = run(package.path, tmp_path / "rows.parquet")
    assert result.exit_code == 1, result.output
    assert result.output.count("[red]") >= 4


def test_few_past_distances_are_told(tmp_path: Path) -> None:
    null = [{"feature": "amount", "detector": "ks", "distances": [0.1], "floor": 0.1}]
    calibration = {"window_rows": 100, "blocks": 2, "nulls": null}
    package = write_calibrated_package(tmp_path / "package", calibration=calibration)
    result = run(package.path, table(tmp_path, (DRIFT, DRIFT)))
    assert result.exit_code == 0
    assert "cannot alarm alone" in result.output


def test_the_detectors_settings_count(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAVY_DETECTOR_CONSECUTIVE_WINDOWS", "1")
    assert run(package.path, table(tmp_path, (0, DRIFT))).exit_code == 1
    monkeypatch.setenv("DAVY_DETECTOR_CONSECUTIV", "1")
    assert isinstance(run(package.path, tmp_path / "x").exception, ConfigurationError)


def test_a_signature_is_checked_against_the_key(tmp_path: Path) -> None:
    private, public = generate_keys(tmp_path / "ours")
    _, theirs = generate_keys(tmp_path / "theirs")
    package = write_calibrated_package(tmp_path / "package", private_key=private)
    rows = table(tmp_path, (0, 0))
    assert run(package.path, rows, "--public-key", str(public)).exit_code == 0
    refused = run(package.path, rows, "--public-key", str(theirs))
    assert isinstance(refused.exception, IntegrityError)


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ("no package", 66, "no such package"),
        ("no table", 66, "no such file"),
        ("no column", 65, "lacks the column amount"),
        ("few rows", 65, "holds 50 rows, and 90 are needed"),
        ("damaged", 77, "sha256 does not match"),
    ],
)
def test_errors_have_a_line_and_a_code_that_is_not_drifts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: str,
    code: int,
    said: str,
) -> None:
    folder = write_calibrated_package(tmp_path / "package").path
    path = tmp_path / "rows.parquet"
    rows = past_rows(50 if change == "few rows" else 100)
    if change == "no column":
        del rows["amount"]
    pq.write_table(pa.table(rows), path)
    if change == "no table":
        path.unlink()
    if change == "damaged":
        (folder / "reference.parquet").write_bytes(b"else")
    if change == "no package":
        folder = folder.with_name("2017.12.31-00000000")
    arguments = ["monitor", "drift", str(folder), str(path), "--engine", "native"]
    monkeypatch.setattr(sys, "argv", ["davy", *arguments])
    with pytest.raises(SystemExit) as ended:
        root.main()
    assert ended.value.code == code
    assert said in capsys.readouterr().err


def weeks(folder: Path, *, shift: float = DRIFT) -> Path:
    """Write four weeks of past rows, named by their Mondays, in no order."""
    columns = past_rows(600, seed=9, shift=shift)
    days = ["2018-01-01", "2018-01-08", "2018-01-15", "2018-01-22"]
    columns["week"] = np.array([days[n % 4] for n in range(600)])
    path = folder / "weeks.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def calibrate(package: Path, rows: Path, *options: str):
    return CliRunner().invoke(
        app, ["calibrate", str(package), str(rows), "--block", "week", *options]
    )


def test_what_was_drift_is_usual_for_the_new_version(tmp_path: Path) -> None:
    private, public = generate_keys(tmp_path / "keys")
    old = write_calibrated_package(tmp_path / "package", private_key=private)
    rows = table(tmp_path, (DRIFT, DRIFT))
    assert run(old.path, rows).exit_code == 1
    result = calibrate(
        old.path, weeks(tmp_path), "--key", str(private), "--public-key", str(public)
    )
    assert result.exit_code == 0, result.output
    assert "600 rows in 4 blocks, 8 nulls" in result.output
    new = Path(result.output.splitlines()[-1])
    assert new.parent == old.path.parent
    assert run(new, rows, "--public-key", str(public)).exit_code == 0
    assert run(old.path, rows, "--public-key", str(public)).exit_code == 1


def test_a_signature_that_is_lost_is_told(tmp_path: Path) -> None:
    private, _ = generate_keys(tmp_path / "keys")
    old = write_calibrated_package(tmp_path / "package", private_key=private)
    store = tmp_path / "other"
    result = calibrate(old.path, weeks(tmp_path), "--store", str(store), "--score", "score")
    assert result.exit_code == 0, result.output
    assert "not signed, as the package was: give --key" in result.output
    assert Path(result.output.splitlines()[-1]).parent.parent == store


def test_a_block_column_that_is_not_there(package: Package, tmp_path: Path) -> None:
    result = calibrate(package.path, table(tmp_path, (0, 0)))
    assert isinstance(result.exception, InvalidInputError)
    assert "lacks the column week" in str(result.exception)


def test_blocks_smaller_than_a_window_are_refused(package: Package, tmp_path: Path) -> None:
    result = calibrate(package.path, table(tmp_path, (0, 0)), "--block", "day")
    assert isinstance(result.exception, InvalidInputError)
    assert "blocks of 'day': most of its 200 blocks have less than" in str(result.exception)
