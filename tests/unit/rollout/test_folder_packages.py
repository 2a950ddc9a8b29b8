"""The gate's view of real packages: facts, signature and compression vetoes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from davy.core.clock import ManualClock
from davy.core.errors import NotFoundError
from davy.packaging.package import Package, write_package
from davy.packaging.sign import generate_keys
from davy.rollout.adapters.folder_packages import RECHECK_SECONDS, FolderPackages

TIME = "2017-11-01T00:00:00Z"
INTERVAL = {"value": 0.1, "lower": 0.09, "upper": 0.11, "n": 100}


def draft() -> dict[str, Any]:
    metric = {"name": "ndcg@10", "overall": INTERVAL}
    candidate = {
        "name": "fp32",
        "bytes": 10,
        "batch": 100,
        "latency_seconds": INTERVAL,
        "quality": INTERVAL,
        "eligible": True,
        "reason": "the measure",
    }
    return {
        "name": "next_basket",
        "version": "",
        "task": "next_basket",
        "kind": "ranking",
        "quantization": "fp32",
        "created": TIME,
        "inputs": [{"name": "price", "datatype": "FP32"}],
        "outputs": [{"name": "score", "datatype": "FP32"}],
        "training": {
            "data_fingerprint": "f" * 64,
            "rows": 10,
            "start": TIME,
            "end": TIME,
            "code_version": "0",
            "seed": 1,
            "libraries": {},
        },
        "metrics": [metric],
        "baselines": {"popularity": metric},
        "compression": {
            "budget": 0.01,
            "prefer": "size",
            "candidates": [candidate],
            "chosen": "fp32",
            "why": "the only one",
        },
        "calibration": {"window_rows": 400, "blocks": 4},
        "rollout": {
            "latency_objective_seconds": 0.1,
            "indicators": [{"name": "errors", "ratio": 1.5, "allowance": 0.01}],
        },
        "privacy": {},
        "lineage": {},
    }


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return generate_keys(tmp_path / "keys")


@pytest.fixture
def package(tmp_path: Path, keys: tuple[Path, Path]) -> Package:
    sources = {}
    for name in ("model.onnx", "reference.parquet"):
        sources[name] = tmp_path / name
        sources[name].write_bytes(f"content of {name}".encode())
    return write_package(tmp_path / "store", draft(), sources, private_key=keys[0])


def clock() -> ManualClock:
    return ManualClock(datetime(2017, 12, 1, tzinfo=UTC))


BOTH = ("signature", "compression")


def test_a_signed_package_within_its_budget_brings_facts_and_no_veto(
    package: Package, keys: tuple[Path, Path]
) -> None:
    version = package.contract.version
    packages = FolderPackages({version: package.path}, clock(), keys[1])
    facts = packages.facts(version)
    assert facts.latency_objective_seconds == 0.1
    assert [item.name for item in facts.indicators] == ["errors"]
    assert [veto.active for veto in packages.vetoes(version, BOTH)] == [False, False]


def test_without_a_key_the_signature_stays_a_veto(package: Package) -> None:
    version = package.contract.version
    packages = FolderPackages({version: package.path}, clock())
    signature, compression = packages.vetoes(version, BOTH)
    assert signature.active
    assert "no public key" in signature.message
    assert not compression.active


def test_another_signer_is_a_veto(package: Package, tmp_path: Path) -> None:
    other = generate_keys(tmp_path / "other")[1]
    version = package.contract.version
    packages = FolderPackages({version: package.path}, clock(), other)
    assert packages.vetoes(version, ("signature",))[0].active


def test_a_flipped_byte_is_found_at_the_next_recheck(
    package: Package, keys: tuple[Path, Path]
) -> None:
    version, time = package.contract.version, clock()
    packages = FolderPackages({version: package.path}, time, keys[1])
    assert not packages.vetoes(version, BOTH)[0].active
    model = package.path / "model.onnx"
    model.chmod(0o644)
    model.write_bytes(b"c0ntent of model.onnx")
    time.sleep(RECHECK_SECONDS)
    assert [veto.active for veto in packages.vetoes(version, BOTH)] == [True, True]


def test_a_folder_of_another_version_is_refused(package: Package) -> None:
    packages = FolderPackages({"2017.01.01-00000000": package.path}, clock())
    with pytest.raises(NotFoundError, match="holds version"):
        packages.facts("2017.01.01-00000000")
