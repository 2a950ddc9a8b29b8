from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from davy.cli.package import app
from davy.core.errors import ConflictError, IntegrityError, NotFoundError
from davy.packaging.package import Package, write_package
from davy.packaging.sign import generate_keys

DAY = datetime(2026, 1, 2, tzinfo=UTC)
TENSOR = {"name": "x", "datatype": "FP32"}
CONTRACT = {
    "name": "tiny",
    "task": "tiny",
    "kind": "ranking",
    "quantization": "fp32",
    "created": DAY,
    "inputs": [TENSOR],
    "outputs": [TENSOR],
    "training": {
        "data_fingerprint": "f",
        "rows": 31_415,
        "start": DAY,
        "end": DAY,
        "code_version": "0.1.0",
        "seed": 1,
        "libraries": {},
    },
    "metrics": [],
    "baselines": {},
    "compression": {
        "budget": 0.0,
        "prefer": "size",
        "candidates": [],
        "chosen": "fp32",
        "why": "alone",
    },
    "calibration": {"window_rows": 10, "blocks": 0},
    "rollout": {"latency_objective_seconds": 0.1},
    "privacy": {},
    "lineage": {},
}


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return generate_keys(tmp_path / "keys")


def written(tmp_path: Path, private_key: Path | None) -> Package:
    files = {}
    for name in ("model.onnx", "reference.parquet"):
        files[name] = tmp_path / name
        files[name].write_bytes(name.encode())
    return write_package(tmp_path / "store", CONTRACT, files, private_key=private_key)


def test_verify_says_what_holds(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    package = written(tmp_path, keys[0])
    plain = CliRunner().invoke(app, ["verify", str(package.path)])
    assert plain.exit_code == 0, plain.output
    assert f"tiny {package.contract.version}" in plain.stdout
    assert package.identity in plain.stdout
    assert "signed, but not checked: give --public-key" in plain.stdout
    checked = CliRunner().invoke(app, ["verify", str(package.path), "--public-key", str(keys[1])])
    assert "signature holds" in checked.stdout


def test_verify_of_an_unsigned_package(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    package = written(tmp_path, None)
    assert "not signed" in CliRunner().invoke(app, ["verify", str(package.path)]).stdout
    error = (
        CliRunner().invoke(app, ["verify", str(package.path), "--public-key", str(keys[1])])
    ).exception
    assert isinstance(error, IntegrityError)
    assert error.exit_code == 77


def test_show_prints_the_card(tmp_path: Path) -> None:
    package = written(tmp_path, None)
    result = CliRunner().invoke(app, ["show", str(package.path)])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("# tiny")
    assert "31,415" in result.stdout


@pytest.mark.parametrize("command", ["show", "verify"])
def test_a_damaged_or_missing_package_is_an_error(tmp_path: Path, command: str) -> None:
    package = written(tmp_path, None)
    (package.path / "card.md").write_text("better than it is")
    damaged = CliRunner().invoke(app, [command, str(package.path)])
    assert isinstance(damaged.exception, IntegrityError)
    assert damaged.stdout == ""
    missing = CliRunner().invoke(app, [command, str(tmp_path / "none")])
    assert isinstance(missing.exception, NotFoundError)


def test_keys_makes_a_pair_once(tmp_path: Path) -> None:
    folder = tmp_path / "pair"
    result = CliRunner().invoke(app, ["keys", str(folder)])
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in folder.iterdir()) == [
        "davy-signing.key",
        "davy-signing.pub",
    ]
    assert "keep it to yourself" in result.stdout
    assert isinstance(CliRunner().invoke(app, ["keys", str(folder)]).exception, ConflictError)
