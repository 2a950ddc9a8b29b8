import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from prometheus_client import CollectorRegistry
from tests.unit.detector.conftest import StandInPackages, told

from davy.core.errors import ConfigurationError
from davy.detector.archive import Archive
from davy.detector.assembly import assemble
from davy.detector.intake import Entry
from davy.detector.metrics import DetectorMetrics
from davy.detector.pairing import Exchange, Half
from davy.detector.samples import Sample
from davy.detector.tables import Partition, pack, tables
from davy.protocol.events import REQUEST, RESPONSE, PayloadEvent
from davy.protocol.tensors import tensor

START = datetime(2017, 12, 31, 23, 59, 58, tzinfo=UTC)


def half(kind, number, tensors, version="v1"):
    when = START + timedelta(seconds=number)
    kinds = {"request": REQUEST, "response": RESPONSE}
    event = PayloadEvent(f"r{number}", kinds[kind], "/s", when, "svc", "ns", version, 0.5, b"12345")
    sample = Sample(kind, event.id, version, when, {}, tensors)
    return Half(event, sample, number, 0.0)


def exchange(number, *, rows=2, answered=True, version="v1"):
    asked = (
        tensor("price", np.arange(rows, dtype=np.float32) + number),
        tensor("department", np.full(rows, 2**60 + number)),
        tensor("name", np.array([b"x"] * rows, object)),
        tensor("embedding", np.arange(rows * 3, dtype=np.float64).reshape(rows, 3)),
        tensor("of_the_request", np.zeros(1, np.float32)),
    )
    answer = (tensor("score", np.full(rows, number / 4, np.float32)),)
    response = half("response", number, answer, version) if answered else None
    return Exchange(bytes([number]), half("request", number, asked, version), response)


def test_every_row_of_an_exchange_is_a_row_in_the_types_of_the_wire():
    ((partition, table),) = tables([pack("m", exchange(0)), pack("m", exchange(1, rows=3))])
    assert partition.folder == "hour=2017-12-31T23/model=m/version=v1"
    rows = table.to_pylist()
    assert [(row["davy_request_id"], row["davy_row"]) for row in rows] == [
        ("r0", 0),
        ("r0", 1),
        ("r1", 0),
        ("r1", 1),
        ("r1", 2),
    ]
    last = rows[-1]
    assert last["davy_time"] == START + timedelta(seconds=1)
    assert (last["davy_namespace"], last["davy_service"]) == ("ns", "svc")
    assert (last["davy_sample_rate"], last["price"], last["output_score"]) == (0.5, 3.0, 0.25)
    assert (last["department"], last["name"], last["embedding"]) == (2**60 + 1, b"x", [6, 7, 8])
    assert table.schema.field("price").type == pa.float32()
    assert table.schema.field("department").type == pa.int64()
    assert "of_the_request" not in table.column_names


def test_hours_models_and_versions_are_apart_and_so_are_those_without_an_answer():
    exchanges = [exchange(0), exchange(1, answered=False), exchange(2), exchange(0, version="v2")]
    found = tables([*(pack("m", one) for one in exchanges), pack("a/b", exchange(0))])
    paths = [(partition.folder, table.num_rows) for partition, table in found]
    assert paths == [
        ("hour=2017-12-31T23/model=m/version=v1", 2),
        ("hour=2017-12-31T23/model=m/version=v1", 2),
        ("hour=2018-01-01T00/model=m/version=v1", 2),
        ("hour=2017-12-31T23/model=m/version=v2", 2),
        ("hour=2017-12-31T23/model=a%2Fb/version=v1", 2),
    ]
    assert "output_score" not in found[1][1].column_names


def test_an_exchange_of_texts_alone_or_of_nothing_is_rows_all_the_same():
    texts = (tensor("name", np.array([b"x", b"y"], object)),)
    one = Exchange(b"1", half("request", 0, texts), None)
    ((_, table),) = tables([pack("m", one)])
    assert table["name"].to_pylist() == [b"x", b"y"]
    assert table.num_rows == 2


def test_the_hour_is_that_of_utc_whatever_the_event_says():
    one = exchange(0)
    event = replace(one.request.event, time=datetime.fromisoformat("2018-01-01T00:30:00+02:00"))
    moved = replace(one, request=replace(one.request, event=event))
    ((partition, table),) = tables([pack("m", moved)])
    assert partition.hour == "2017-12-31T22"
    assert table["davy_time"][0].as_py().hour == 22


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_files_are_read_as_one_dataset(tmp_path, form):
    archive = Archive(form.format(tmp_path / "archive"))
    for number in range(3):
        one = tables([pack("m", exchange(number, answered=number != 1))])
        for part, (partition, table) in enumerate(one):
            archive.write(f"{partition.folder}/{number}-{part}.parquet", table)
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".parquet"}
    schema = ds.dataset(
        [str(path) for path in sorted(tmp_path.rglob("*.parquet"))], format="parquet"
    ).schema
    assert "output_score" in schema.names
    found = ds.dataset(tmp_path / "archive", partitioning="hive").to_table()
    assert set(found["version"].to_pylist()) == {"v1"}
    assert sorted(set(found["davy_request_id"].to_pylist())) == ["r0", "r1", "r2"]


def test_a_file_that_is_being_written_is_none_to_a_reader(tmp_path, monkeypatch):
    archive = Archive(str(tmp_path))
    archive.write("hour=2018-01-01T00/model=m/version=v1/1.parquet", pa.table({"a": [1]}))
    seen = []

    def write_some(table, where, filesystem):
        with filesystem.open_output_stream(where) as file:
            file.write(b"not yet")
        seen.append(ds.dataset(tmp_path, partitioning="hive").count_rows())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", write_some)
    path = "hour=2018-01-01T00/model=m/version=v1/2.parquet"
    with pytest.raises(OSError, match="No space"):
        archive.write(path, pa.table({"a": [1]}))
    assert seen == [1]
    assert len([file for file in tmp_path.rglob("*") if file.is_file()]) == 2
    archive.remove([path])
    assert len([file for file in tmp_path.rglob("*") if file.is_file()]) == 1


def test_a_relative_folder_and_a_file_that_is_already_gone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    archive = Archive("archive")
    path = f"{Partition('2018-01-01T00', 'm', 'v1').folder}/1.parquet"
    archive.write(path, pa.table({"a": [1]}))
    assert pq.read_table(tmp_path / "archive" / path)["a"].to_pylist() == [1]
    archive.remove([path, path])
    assert not list(tmp_path.rglob("*.parquet"))


def test_hours_that_are_too_old_are_removed_and_nothing_else(tmp_path):
    archive = Archive(str(tmp_path))
    for hour in ("2018-01-01T00", "2018-01-01T01", "2018-01-01T02"):
        archive.write(f"hour={hour}/model=m/version=v1/1.parquet", pa.table({"a": [1]}))
    (tmp_path / "hour=of-somebody-else").mkdir()
    (tmp_path / "notes.txt").write_text("keep")
    assert archive.expire(datetime(2018, 1, 1, 4, 30, tzinfo=UTC), 2) == 2
    assert {path.name for path in tmp_path.iterdir()} == {
        "hour=2018-01-01T02",
        "hour=of-somebody-else",
        "notes.txt",
    }
    assert Archive(str(tmp_path / "not there")).expire(START, 1) == 0


def test_a_place_of_an_unknown_kind_is_refused_with_what_to_do():
    with pytest.raises(ConfigurationError, match="DAVY_DETECTOR_ARCHIVE"):
        Archive("carrier-pigeon://loft")


@pytest.fixture
def archiving(settings, clock, tmp_path):
    """Return a detector with an archive, its registry, and what gives it samples."""
    registry = CollectorRegistry()
    changes = {
        "state": tmp_path / "state",
        "archive": str(tmp_path / "archive"),
        "archive_rows": 8,
        "archive_hours": 1.0,
    }
    parts = assemble(
        settings.model_copy(update=changes), StandInPackages(), DetectorMetrics(registry), clock
    )
    place = iter(range(0, 10**9, 1000))

    def feed(samples):
        with_tensors = [
            sample
            if sample.tensors
            else replace(
                sample,
                tensors=tuple(tensor(n, np.array([v])) for n, v in sample.values.items()),
            )
            for sample in samples
        ]
        entry = Entry(start := next(place), start + 1000, [told(one) for one in with_tensors])
        asyncio.run(parts.consumer.apply([entry]))

    yield parts, registry, feed
    parts.close()


def files(tmp_path):
    return sorted((tmp_path / "archive").rglob("*.parquet"))


def test_rows_are_written_when_they_are_enough_or_old(archiving, traffic, clock, tmp_path, tick):
    parts, registry, feed = archiving
    feed(traffic(7))
    asyncio.run(parts.consumer.tick())
    assert files(tmp_path) == []
    feed(traffic(1, seed=1))
    asyncio.run(parts.consumer.tick())
    assert [pq.read_table(path).num_rows for path in files(tmp_path)] == [8]
    feed(traffic(1, seed=2))
    clock.sleep(60)
    asyncio.run(parts.consumer.tick())
    assert [pq.read_table(path).num_rows for path in files(tmp_path)] == [8, 1]
    labels = {"model": "m", "version": "v1"}
    assert registry.get_sample_value("davy_detector_archived_rows_total", labels) == 9
    clock.sleep(7200)
    asyncio.run(parts.consumer.tick())
    assert files(tmp_path) == []


def test_a_place_that_fails_is_tried_again_and_holds_each_exchange_once(
    archiving, traffic, tmp_path, monkeypatch
):
    parts, registry, feed = archiving
    write = Archive.write

    def write_one_and_fail(archive, path, table):
        if "version=v1" in path:
            write(archive, path, table)
        else:
            raise OSError(28, "No space left on device")

    feed(traffic(4, version="v2") + traffic(4, version="v1"))
    monkeypatch.setattr(Archive, "write", write_one_and_fail)
    feed(traffic(4, seed=1, version="v1"))
    asyncio.run(parts.consumer.tick())
    assert registry.get_sample_value("davy_detector_archive_failures_total") == 1
    monkeypatch.setattr(Archive, "write", write)
    asyncio.run(parts.consumer.tick())
    found = ds.dataset(tmp_path / "archive", partitioning="hive").to_table()
    ids = list(zip(found["version"].to_pylist(), found["davy_request_id"].to_pylist(), strict=True))
    assert len(ids) == len(set(ids)) == 12
    assert registry.get_sample_value("davy_detector_archive_failures_total") == 1


def test_while_nothing_can_be_written_no_more_is_taken_than_there_is_room_for(
    archiving, traffic, monkeypatch
):
    parts, _, feed = archiving

    def fail(archive, path, table):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Archive, "write", fail)
    seed = 0
    while not parts.archiver.full:
        feed(traffic(8, seed=(seed := seed + 1)))
        asyncio.run(parts.consumer.tick())
        assert seed < 10
    assert seed == 5


def test_an_archive_without_a_state_is_refused_with_what_to_do(settings, clock, tmp_path):
    lacking = settings.model_copy(update={"archive": str(tmp_path)})
    with pytest.raises(ConfigurationError, match="DAVY_DETECTOR_STATE"):
        assemble(lacking, StandInPackages(), DetectorMetrics(CollectorRegistry()), clock)


def test_what_is_not_watched_is_not_archived(archiving, traffic, tmp_path):
    parts, _, feed = archiving
    feed(traffic(20, version="other"))
    asyncio.run(parts.archiver.flush())
    assert files(tmp_path) == []


class StandInKill(BaseException):
    """Ends the process where it is raised."""


def test_the_files_of_a_writing_that_was_cut_off_are_removed_and_written_anew(
    settings, clock, traffic, tmp_path, monkeypatch
):
    kept = settings.model_copy(
        update={"state": tmp_path / "state", "archive": str(tmp_path / "archive")}
    )

    def begin():
        return assemble(kept, StandInPackages(), DetectorMetrics(CollectorRegistry()), clock)

    def exchanges(version):
        samples = [
            replace(
                sample, tensors=tuple(tensor(n, np.array([v])) for n, v in sample.values.items())
            )
            for sample in traffic(3, version=version)
        ]
        return [told(sample) for sample in samples]

    v1, v2 = Entry(0, 100, exchanges("v1")), Entry(100, 200, exchanges("v2"))
    write = Archive.write

    def write_and_end(archive, path, table):
        write(archive, path, table)
        if "version=v2" in path:
            raise StandInKill

    parts = begin()
    asyncio.run(parts.consumer.apply([v1, v2]))
    with monkeypatch.context() as patch:
        patch.setattr(Archive, "write", write_and_end)
        with pytest.raises(StandInKill):
            asyncio.run(parts.archiver.flush())
    parts.close()
    assert len(files(tmp_path)) == 2

    parts = begin()
    asyncio.run(parts.consumer.recover())
    assert files(tmp_path) == []
    # They come in another order, so that their files have other names.
    asyncio.run(parts.consumer.apply([v2]))
    asyncio.run(parts.consumer.apply([v1]))
    asyncio.run(parts.archiver.flush())
    found = ds.dataset(tmp_path / "archive", partitioning="hive").to_table()
    assert sorted(found["version"].to_pylist()) == ["v1"] * 3 + ["v2"] * 3
    parts.close()


@pytest.fixture
def tidying(settings, clock, tmp_path):
    """Return a function that begins a detector on the same archive, whose next tick tidies."""
    started = []
    kept = settings.model_copy(
        update={"state": tmp_path / "state", "archive": str(tmp_path / "archive")}
    )

    def make(**changes):
        parts = assemble(
            kept.model_copy(update=changes),
            StandInPackages(),
            DetectorMetrics(CollectorRegistry()),
            clock,
        )
        started.append(parts)
        return parts

    yield make
    for parts in started:
        parts.close()


def many_files(tmp_path):
    """Write five files of two versions, one of them without outputs; return all their rows."""
    archive = Archive(str(tmp_path / "archive"))
    for number, version in enumerate(("v1", "v2", "v1", "v1", "v1")):
        one = [pack("m", exchange(0, version=version, answered=number != 3))]
        for part, (partition, table) in enumerate(tables(one)):
            archive.write(f"{partition.folder}/{number}-{part}.parquet", table)
    return rows_in(tmp_path)


def rows_in(tmp_path):
    names = ["version", "davy_request_id", "davy_row", "price", "department", "embedding"]
    found = ds.dataset(tmp_path / "archive", partitioning="hive").to_table(columns=names)
    return sorted(map(repr, found.to_pylist()))


def test_small_files_become_one_when_their_hour_has_long_ended(tidying, clock, tmp_path):
    before = many_files(tmp_path)
    parts = tidying()
    clock.time = START + timedelta(hours=1)
    asyncio.run(parts.archiver.tick())
    assert len(files(tmp_path)) == 5
    clock.sleep(7200)
    asyncio.run(parts.archiver.tick())
    # Three of v1 with outputs are one; the one without, and that of v2, stay alone.
    assert len(files(tmp_path)) == 3
    assert rows_in(tmp_path) == before
    clock.sleep(600)
    asyncio.run(parts.archiver.tick())
    assert len(files(tmp_path)) == 3


def test_a_state_that_was_lost_writes_over_nothing(settings, clock, traffic, tmp_path):
    for turn in range(2):
        changes = {"state": tmp_path / f"state-{turn}", "archive": str(tmp_path / "archive")}
        parts = assemble(
            settings.model_copy(update=changes),
            StandInPackages(),
            DetectorMetrics(CollectorRegistry()),
            clock,
        )
        samples = [
            replace(one, tensors=tuple(tensor(n, np.array([v])) for n, v in one.values.items()))
            for one in traffic(2, seed=turn)
        ]
        asyncio.run(parts.consumer.apply([Entry(0, 100, [told(one) for one in samples])]))
        asyncio.run(parts.archiver.flush())
        parts.close()
    assert ds.dataset(tmp_path / "archive", partitioning="hive").count_rows() == 4


def test_files_become_no_larger_than_they_may(tidying, clock, tmp_path):
    before = many_files(tmp_path)
    clock.time = START + timedelta(hours=4)
    size = max(path.stat().st_size for path in files(tmp_path))
    asyncio.run(tidying(archive_merge_bytes=int(2.5 * size)).archiver.tick())
    assert len(files(tmp_path)) == 4
    assert rows_in(tmp_path) == before


@pytest.mark.parametrize("point", ["merge", "remove"])
def test_a_merging_that_is_cut_off_leaves_each_row_once(
    tidying, clock, tmp_path, monkeypatch, point
):
    before = many_files(tmp_path)
    clock.time = START + timedelta(hours=4)
    real = getattr(Archive, point)

    def act_and_end(archive, *arguments):
        if point == "merge":
            real(archive, *arguments)  # the new file is there, and was not said to count
        else:
            real(archive, arguments[0][:1])  # one of three is gone
        raise StandInKill

    parts = tidying()
    with monkeypatch.context() as patch:
        patch.setattr(Archive, point, act_and_end)
        with pytest.raises(StandInKill):
            asyncio.run(parts.archiver.tick())
    parts.close()
    assert rows_in(tmp_path) != before
    parts = tidying()
    asyncio.run(parts.consumer.recover())
    assert rows_in(tmp_path) == before
    asyncio.run(parts.archiver.tick())
    assert rows_in(tmp_path) == before
    assert len(files(tmp_path)) == 3
