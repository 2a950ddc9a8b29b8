from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from davy.packaging.contract import (
    Calibration,
    Compression,
    CompressionCandidate,
    Contract,
    FeatureNull,
    GateDefault,
    Interval,
    Lineage,
    Metric,
    Outliers,
    Period,
    Privacy,
    Range,
    RolloutDefaults,
    TensorSpec,
    Training,
)
from davy.packaging.package import Package, write_package
from davy.packaging.sign import generate_keys


def interval(value: float, n: int = 2400) -> Interval:
    return Interval(value=value, lower=value - 0.01, upper=value + 0.01, n=n)


@pytest.fixture
def draft() -> Contract:
    candidate = CompressionCandidate(
        name="int8",
        bytes=51_234,
        batch=100,
        latency_seconds=Interval(value=0.00042, lower=0.0004, upper=0.00045, n=200),
        quality=interval(0.1871),
        difference=interval(-0.0004),
        eligible=True,
        reason="within the budget",
    )
    whole = candidate.model_copy(
        update={"name": "fp32", "bytes": 201_999, "difference": None, "reason": "the measure"}
    )
    pruned = candidate.model_copy(
        update={"name": "pruned", "eligible": False, "reason": "loses too much for shopper=new"}
    )
    return Contract(
        name="next_basket",
        version="",
        task="next_basket",
        kind="ranking",
        quantization="int8",
        created=datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC),
        inputs=[
            TensorSpec(name="recency", datatype="INT64", unit="day", range=Range(low=0, high=60)),
            TensorSpec(name="price", datatype="FP32", unit="dollar", missing="flag"),
        ],
        outputs=[TensorSpec(name="score", datatype="FP32", range=Range(low=0, high=1))],
        training=Training(
            data_fingerprint="f" * 64,
            rows=900_123,
            start=datetime(2017, 4, 2, tzinfo=UTC),
            end=datetime(2017, 10, 7, tzinfo=UTC),
            code_version="0.1.0+abc",
            seed=7,
            libraries={"torch": "2.5.1"},
        ),
        metrics=[
            Metric(
                name="ndcg@10",
                overall=interval(0.1873),
                segments={"shopper=new": interval(0.1222, 77), "shopper=old": interval(0.2111)},
            )
        ],
        baselines={
            "personal": Metric(
                name="ndcg@10",
                overall=interval(0.1712),
                segments={"shopper=new": interval(0.1333, 77), "shopper=old": interval(0.1811)},
            )
        },
        compression=Compression(
            budget=0.01,
            prefer="size",
            candidates=[whole, candidate, pruned],
            chosen="int8",
            why="It is the smallest of those that keep the quality.",
        ),
        calibration=Calibration(
            window_rows=400,
            blocks=8,
            nulls=[
                FeatureNull(
                    feature="price", detector="ks", distances=[0.031, 0.044, 0.061], floor=0.12
                )
            ],
            score_buckets=[0.1, 0.4],
            score_shares=[0.5, 0.3, 0.2],
        ),
        rollout=RolloutDefaults(
            latency_objective_seconds=0.1,
            indicators=[GateDefault(name="errors", ratio=1.5, allowance=0.01)],
        ),
        privacy=Privacy(pseudonymised=["household_id"]),
        lineage=Lineage(parent="2026.03.01-0a1b2c3d"),
        segments=["shopper"],
        outliers=Outliers(
            file="outlier.json",
            method="mahalanobis",
            threshold=41.25,
            false_positive_rate=0.01,
            rows=1_400,
            batch=100,
            seconds=Interval(value=4.1e-05, lower=4e-05, upper=4.2e-05, n=60),
            model_seconds=Interval(value=0.00042, lower=0.0004, upper=0.00045, n=60),
            in_request=True,
            why="scoring 100 rows took 41 µs, the model 420 µs",
        ),
        measured=Period(
            start=datetime(2017, 11, 5, tzinfo=UTC), end=datetime(2017, 12, 2, tzinfo=UTC)
        ),
    )


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    folder = tmp_path / "made"
    folder.mkdir()
    contents = {
        "model.onnx": b"\x08\x09\x12 a graph " * 50,
        "reference.parquet": b"PAR1 rows PAR1" * 40,
        "evidence/task.yaml": b"name: next_basket\n",
    }
    made = {}
    for name, content in contents.items():
        made[name] = folder / Path(name).name
        made[name].write_bytes(content)
    return made


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return generate_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def signed(
    tmp_path: Path, draft: Contract, files: dict[str, Path], keys: tuple[Path, Path]
) -> Package:
    return write_package(tmp_path / "store", draft, files, private_key=keys[0])
