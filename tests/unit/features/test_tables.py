"""Tables that are built from a shop's files: which there are, and that a file names its bytes."""

import hashlib

import pyarrow.parquet as pq
import pytest
from tests.fixtures.made_up_shop import write_made_up_shop

from davy.data.table_task import TableTask
from davy.features.tables import BUILT, table_file


def task(source: str, table: str | None) -> TableTask:
    return TableTask.model_validate(
        {
            "name": "t",
            "kind": "classification",
            "data": {"source": source, "table": table},
            "label": {"name": "label", "classes": ["no", "yes"]},
            "features": [{"name": "recency_days", "type": "number"}],
            "objective": {"metric": "roc_auc"},
        }
    )


@pytest.mark.parametrize("name", BUILT)
def test_a_table_built_twice_is_the_same_file(name, tmp_path):
    shop = write_made_up_shop(tmp_path / "shop", households=30)
    digests = set()
    for folder in ("one", "two"):
        path = table_file(task(f"file://{shop}", name), tmp_path / folder)
        assert {"household", "label", "recency_days"} <= set(pq.read_schema(path).names)
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(digests) == 1


def test_a_file_is_its_own_table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("label\nno\n")
    assert table_file(task(f"file://{path}", None), tmp_path / "unused") == path
    assert not (tmp_path / "unused").exists()
