"""A crash at any moment: what was acknowledged is counted, and counted once."""

import asyncio
import shutil
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pytest
from prometheus_client import CollectorRegistry
from tests.unit.detector.conftest import ROWS, START

from davy.detector.archive import Archive
from davy.detector.assembly import assemble
from davy.detector.journal import FolderJournal
from davy.detector.metrics import EVENTS, DetectorMetrics
from davy.detector.records import Record, read_events, with_samples
from davy.protocol.events import REQUEST, RESPONSE, PayloadEvent, encode_batch
from davy.protocol.tensors import tensor
from davy.protocol.v2 import InferRequest, InferResponse, encode_request, encode_response

ROW = ("davy_request_id", "davy_row")


def events(number):
    rng = np.random.default_rng(number)
    asked = encode_request(
        InferRequest(
            (
                tensor("price", rng.normal(0, 1, 4).astype(np.float32)),
                tensor("department", rng.integers(0, 3, 4)),
            )
        ),
        binary=True,
    )
    score = (tensor("score", rng.random(4).astype(np.float32)),)
    answered = encode_response(InferResponse("m", "v1", score), binary=["score"])
    when = START + timedelta(seconds=number)
    return [
        PayloadEvent(
            f"r{number}", kind, "/s", when, "m", "", "v1", 1.0, one.body, one.header_length
        )
        for kind, one in ((REQUEST, asked), (RESPONSE, answered))
    ]


def bodies(exchanges):
    """Return batches in which most pairs are together, some in two, and some in the wrong order."""
    told = [event for number in range(exchanges) for event in events(number)]
    for at in range(5, len(told) - 1, 12):
        told[at], told[at + 1] = told[at + 1], told[at]
    return [encode_batch(told[at : at + 7]) for at in range(0, len(told), 7)]


@pytest.fixture
def begin(packages, settings, clock, tmp_path):
    """Return a function that starts a detector on a folder, as a new process does."""
    started = []

    def make(folder=tmp_path / "kept", on_pair=lambda pair: None):
        changes = {
            "state": folder / "state",
            "segment_bytes": 4096,
            "archive": str(folder / "archive"),
            "archive_rows": 40,
        }
        kept = settings.model_copy(update=changes)
        parts = assemble(kept, packages, DetectorMetrics(CollectorRegistry()), clock, on_pair)
        started.append(parts)
        return parts

    yield make
    for parts in started:
        parts.ledger.close()
        if isinstance(parts.journal, FolderJournal):
            parts.journal.close()


async def post(parts, body):
    record = Record("batch", START, body)
    await parts.intake.put(record, events=with_samples(read_events(record)))


async def count(parts):
    while entries := await parts.intake.take(20, 0):
        await parts.consumer.apply(entries)
        parts.intake.release(entries)


def counted(parts):
    found = parts.ledger.counters()
    return [found.get((EVENTS, ("m", "v1", kind)), 0) for kind in ("request", "response")]


def windows(parts):
    (version,) = parts.consumer.report()["versions"]
    return len(version["windows"]), version["rows"]


@dataclass
class Images:
    """Copies of the state's folder as a kill at that moment would leave it."""

    source: Path
    folder: Path
    acknowledged: int = 0
    taken: list[tuple[Path, int]] = field(default_factory=list)

    def take(self, _=None):
        target = self.folder / str(len(self.taken))
        shutil.copytree(self.source, target)  # a killed process leaves what the system has
        self.taken.append((target, self.acknowledged))


def test_killed_at_any_moment_nothing_acknowledged_is_lost_and_nothing_counts_twice(
    begin, tmp_path, monkeypatch
):
    exchanges = 24
    posted = bodies(exchanges)
    images = Images(tmp_path / "kept", tmp_path / "images")
    parts = begin(on_pair=images.take)  # within the transactions
    write = Archive.write

    def write_and_take(archive, path, table):
        images.take()
        write(archive, path, table)
        images.take()

    monkeypatch.setattr(Archive, "write", write_and_take)

    async def live():
        for number, body in enumerate(posted):
            await post(parts, body)
            images.acknowledged = number + 1
            images.take()
            if number % 3 == 2:
                await count(parts)
                images.take()
                await parts.consumer.tick()
                images.take()

    async def recover(image, acknowledged):
        again = begin(image)
        await again.consumer.recover()
        told = [
            e for body in posted[:acknowledged] for e in read_events(Record("batch", START, body))
        ]
        ids = [[e.id for e in told if e.type == kind] for kind in (REQUEST, RESPONSE)]
        both = len(set(ids[0]) & set(ids[1]))
        assert counted(again) == [both, both]
        # Its sender cannot know what was taken, and tells everything again.
        for body in posted:
            await post(again, body)
        await count(again)
        assert counted(again) == [exchanges, exchanges]
        assert windows(again) == (0, exchanges)
        await again.archiver.flush()
        await again.consumer.tick()
        found = ds.dataset(image / "archive", partitioning="hive").to_table()
        rows = sorted(zip(*(found[name].to_pylist() for name in ROW), strict=True))
        assert rows == sorted((f"r{n}", row) for n in range(exchanges) for row in range(4))
        assert found["output_score"].null_count == 0
        again.close()

    asyncio.run(live())
    monkeypatch.undo()
    assert len(images.taken) > 30
    for image, acknowledged in images.taken:
        asyncio.run(recover(image, acknowledged))


def test_a_window_and_what_drifts_go_on_after_a_restart(begin, traffic):
    first = begin()

    async def live(parts, numbers):
        for number in numbers:
            await post(parts, encode_batch(events(number)))
        await count(parts)

    asyncio.run(live(first, range(ROWS + 20)))
    assert windows(first) == (1, 20)
    streaks = first.ledger.streaks("v1")
    assert {tuple(item["test"]) for item in streaks} >= {("price", "ks"), ("score", "ks")}
    first.close()
    second = begin()
    asyncio.run(second.consumer.recover())
    asyncio.run(live(second, range(ROWS + 20, 2 * ROWS)))
    # Twenty rows from before and thirty new ones are a window.
    assert windows(second) == (1, 0)
    assert second.consumer.report()["versions"][0]["windows"][0]["rows"] == ROWS
    assert [item["quiet"] for item in second.ledger.streaks("v1")] == [
        item["quiet"] + 1 for item in streaks
    ]


def test_counters_go_on_from_where_they_were(begin, packages, settings, clock):
    parts = begin()
    asyncio.run(post(parts, encode_batch(events(1))))
    asyncio.run(count(parts))
    parts.close()
    registry = CollectorRegistry()
    kept = settings.model_copy(update={"state": settings.store / "kept" / "state"})
    again = assemble(kept, packages, DetectorMetrics(registry), clock)
    labels = {"model": "m", "version": "v1", "type": "request"}
    assert registry.get_sample_value("davy_detector_events_total", labels) == 1
    again.close()


def test_the_journal_is_let_go_of_as_it_is_counted_but_for_what_waits(
    begin, clock, settings, tmp_path
):
    parts = begin()

    async def live():
        await post(parts, encode_batch(events(0)[:1]))
        for number in range(1, 60):
            await post(parts, encode_batch(events(number)))
        await count(parts)
        held = parts.journal.size
        await parts.consumer.tick()
        assert parts.journal.size == held  # the first request waits for its response
        clock.sleep(settings.join_seconds)
        await parts.consumer.tick()
        assert parts.journal.size == held  # now it waits to be written
        await parts.archiver.flush()
        await parts.consumer.tick()
        assert parts.journal.size < held / 4

    asyncio.run(live())
    assert counted(parts) == [60, 59]


def test_a_record_of_another_version_of_davy_costs_itself_alone(begin, capsys):
    parts = begin()
    parts.journal.append([b'{"kind": "thought", "received": "2017-01-01", "headers": {}}\n{}'])
    asyncio.run(post(parts, encode_batch(events(1))))
    parts.close()
    again = begin()
    asyncio.run(again.consumer.recover())
    assert counted(again) == [1, 1]
    assert "record_not_recovered" in capsys.readouterr().out
