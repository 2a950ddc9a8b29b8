"""The committed JSON Schemas are those of the code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from davy.packaging.schemas import documents, main

FOLDER = Path(__file__).parents[2] / "pipelines/schemas"


@pytest.mark.parametrize("name", sorted(documents()))
def test_a_schema_is_as_committed(name: str) -> None:
    assert documents()[name] == (FOLDER / name).read_text(encoding="utf-8"), (
        "run: python -m davy.packaging.schemas pipelines/schemas"
    )


def test_no_other_schema_is_committed() -> None:
    assert sorted(path.name for path in FOLDER.glob("*.json")) == sorted(documents())


def test_they_are_written_by_name(tmp_path: Path) -> None:
    main(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(documents())


def test_files_by_people_are_closed_and_files_by_machines_open() -> None:
    closed = {name: json.loads(text).get("additionalProperties") for name, text in
              documents().items()}  # fmt: skip
    assert closed == {
        "task.schema.json": False,
        "table_task.schema.json": False,
        "contract.schema.json": True,
        "manifest.schema.json": True,
        "outlier.schema.json": True,
    }
