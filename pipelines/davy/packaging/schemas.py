"""The JSON Schemas that Davy publishes: of tasks, the contract, the manifest and the scorer.

Belongs here: which are published, under which name. Not here: the models they are made from.

Write them with ``python -m davy.packaging.schemas pipelines/schemas``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pydantic import BaseModel

from davy.core.files import write_atomic
from davy.data.table_task import TableTask
from davy.data.task import Task
from davy.outlier.document import OutlierDocument
from davy.packaging.contract import Contract
from davy.packaging.manifest import Manifest

PUBLISHED: dict[str, type[BaseModel]] = {
    "task": Task,
    "table_task": TableTask,
    "contract": Contract,
    "manifest": Manifest,
    "outlier": OutlierDocument,
}


def documents() -> dict[str, str]:
    """Return the text of every schema by its file name."""
    return {f"{name}.schema.json": _text(name, model) for name, model in PUBLISHED.items()}


def _text(name: str, model: type[BaseModel]) -> str:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **model.model_json_schema(),
        "title": f"Davy {name}",
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def main(folder: Path) -> None:
    """Write every schema into `folder`."""
    for name, text in documents().items():
        write_atomic(folder / name, text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
