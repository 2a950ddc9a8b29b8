from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from davy.core.errors import InvalidInputError
from davy.kubeflow.findings import read_findings
from davy.packaging.contract import Calibration, Compression

INTERVAL = {"value": 0.2, "lower": 0.1, "upper": 0.3, "n": 50}
METRIC = {"name": "ndcg@10", "overall": INTERVAL}
REPORTS: dict[str, Any] = {
    "quality": {"data_fingerprint": "f" * 64, "pseudonymised": ["household_id"], "checks": []},
    "training": {
        "rows": 10,
        "start": "2017-01-01T00:00:00Z",
        "end": "2017-02-01T00:00:00Z",
        "seed": 7,
        "libraries": {"torch": "2"},
        "epochs": [],
    },
    "evaluation": {
        "metrics": [METRIC],
        "baselines": {"popularity": METRIC},
        "start": "2017-03-01T00:00:00Z",
        "end": "2017-03-28T00:00:00Z",
    },
}


def write(folder: Path, reports: dict[str, Any]) -> dict[str, Path]:
    paths = {name: folder / f"{name}.json" for name in reports}
    for name, path in paths.items():
        path.write_text(json.dumps(reports[name]), encoding="utf-8")
    return paths


def parts() -> tuple[Compression, Calibration]:
    return (
        Compression(budget=0.01, prefer="size", candidates=[], chosen="fp32", why=""),
        Calibration(window_rows=400, blocks=0),
    )


def test_findings_come_from_three_reports(tmp_path: Path) -> None:
    compression, calibration = parts()
    found = read_findings(
        **write(tmp_path, REPORTS), compression=compression, calibration=calibration
    )
    assert found.fingerprint == "f" * 64
    assert found.pseudonymised == ["household_id"]
    assert (found.rows, found.seed, found.libraries) == (10, 7, {"torch": "2"})
    assert found.metrics[0].overall.value == 0.2
    assert list(found.baselines) == ["popularity"]
    assert found.measured.end == datetime(2017, 3, 28, tzinfo=UTC)
    assert found.compression is compression


@pytest.mark.parametrize(
    ("report", "field"),
    [("quality", "data_fingerprint"), ("training", "seed"), ("evaluation", "metrics")],
)
def test_a_missing_field_is_named_with_its_file(tmp_path: Path, report: str, field: str) -> None:
    less = {name: dict(fields) for name, fields in REPORTS.items()}
    del less[report][field]
    compression, calibration = parts()
    with pytest.raises(InvalidInputError, match=rf"{report}\.json: {field}"):
        read_findings(**write(tmp_path, less), compression=compression, calibration=calibration)
