import asyncio
import os
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from davy.detector import label_table
from davy.detector.label_table import LabelTable
from davy.detector.labels import Label

WHEN = datetime(2017, 12, 1, 6, tzinfo=UTC)


@pytest.fixture
def look(parts, clock, tmp_path):
    """Return a function that looks at a table and returns the labels that were taken of it."""
    tables = {}

    def run(name):
        path = tmp_path / name
        table = tables.setdefault(name, LabelTable(path, 60, parts.intake, parts.metrics, clock))

        async def both():
            count = await table.look()
            entries = await parts.intake.take(10_000, 0)
            parts.intake.release(entries)
            labels = [label for entry in entries for label in entry.labels]
            assert len(labels) == count
            return labels

        return asyncio.run(both())

    return run


def unused(registry):
    return registry.get_sample_value("davy_labels_unused_total", {"reason": "table"})


def write(path, columns):
    table = pa.table(columns)
    csv.write_csv(table, path) if path.suffix == ".csv" else pq.write_table(table, path)


@pytest.mark.parametrize("name", ["labels.csv", "labels.parquet"])
def test_a_table_is_read_once_and_again_when_it_has_changed(look, tmp_path, clock, name):
    path = tmp_path / name
    columns = {
        "request_id": ["7", "r2", "r3"],
        "label": [1.0, None, 0.0],
        "time": [WHEN, WHEN, None],
        "of_no_use": [1, 2, 3],
    }
    write(path, columns)
    assert look(name) == [Label("7", (1.0,), WHEN), Label("r3", (0.0,), clock.now())]
    assert look(name) == []
    write(path, {**columns, "label": [1.0, 1.0, 0.0]})
    os.utime(path, ns=(1, 1))  # whichever way its time moves
    assert len(look(name)) == 3


def test_ids_of_digits_are_texts(look, tmp_path):
    (tmp_path / "labels.csv").write_text("request_id,label\n12,1\n13,0\n")
    assert [label.request_id for label in look("labels.csv")] == ["12", "13"]


def test_labels_of_a_row_each_come_as_lists(look, tmp_path):
    write(tmp_path / "labels.parquet", {"request_id": ["a"], "label": [[0, 1, 0]]})
    assert look("labels.parquet")[0].values == (0.0, 1.0, 0.0)


def test_a_long_table_comes_in_pages(look, tmp_path, monkeypatch):
    monkeypatch.setattr(label_table, "PAGE", 4)
    write(tmp_path / "labels.csv", {"request_id": [f"r{n}" for n in range(10)], "label": [1] * 10})
    assert len(look("labels.csv")) == 10


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.csv", b"request_id,lable\nr1,1\n"),
        ("labels.csv", b"request_id,label\nr1,yes\n"),
        ("labels.csv", b"request_id,label\nr1,1,2\n"),
        ("labels.csv", b""),
        ("labels.parquet", b"no parquet"),
    ],
)
def test_what_cannot_be_read_is_counted_and_said_once(look, tmp_path, registry, name, content):
    (tmp_path / name).write_bytes(content)
    assert look(name) == look(name) == []
    assert unused(registry) == 1


def test_labels_of_a_type_that_no_label_has_are_counted_and_end_nothing(look, tmp_path, registry):
    columns = {"request_id": ["a"], "label": pa.array([Decimal("1.5")])}
    write(tmp_path / "labels.parquet", columns)
    assert look("labels.parquet") == []
    assert unused(registry) == 1


def test_a_table_that_is_not_there_may_come_later(look, tmp_path, registry):
    assert look("labels.csv") == []
    assert unused(registry) == 1
    write(tmp_path / "labels.csv", {"request_id": ["a"], "label": [1]})
    assert len(look("labels.csv")) == 1


def test_a_queue_that_is_full_is_waited_for(parts, clock, tmp_path, monkeypatch):
    monkeypatch.setattr(label_table, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(label_table, "PAGE", 300)
    path = tmp_path / "labels.csv"
    write(path, {"request_id": [f"r{n}" for n in range(900)], "label": [1] * 900})
    table = LabelTable(path, 60, parts.intake, parts.metrics, clock)

    async def run():
        looking = asyncio.create_task(table.look())
        taken = 0
        while not looking.done() or taken < 900:
            entries = await parts.intake.take(300, 0.01)
            taken += sum(entry.items for entry in entries)
            parts.intake.release(entries)
        assert await looking == taken == 900

    asyncio.run(run())
