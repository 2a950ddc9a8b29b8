import asyncio
import threading
from datetime import UTC, datetime

import pytest

from davy.core.errors import OverloadedError, UnavailableError
from davy.detector.intake import Intake
from davy.detector.journal import NoJournal
from davy.detector.records import Record

NOW = datetime(2017, 1, 1, tzinfo=UTC)


def record(body=b"{}"):
    return Record("labels", NOW, body)


class StandInDisk(NoJournal):
    """A disk that can be slow, or full."""

    def __init__(self):
        super().__init__()
        self.groups = []
        self.free = threading.Event()
        self.free.set()
        self.full = False

    def append(self, contents):
        self.free.wait(10)
        if self.full:
            raise OSError(28, "No space left on device")
        self.groups.append(len(contents))
        return super().append(contents)


@pytest.fixture
def disk():
    return StandInDisk()


def intake(disk, *, most=10, most_bytes=10_000, **options):
    return Intake(disk, most=most, most_bytes=most_bytes, **options)


def test_nothing_is_acknowledged_before_it_is_on_the_disk(disk):
    async def run():
        held = intake(disk)
        disk.free.clear()
        posted = asyncio.create_task(held.put(record(), labels=[1]))
        await asyncio.sleep(0.05)
        assert not posted.done()
        assert await held.take(10, 0.01) == []
        disk.free.set()
        await posted
        (entry,) = await held.take(10, 1)
        assert (entry.place, entry.labels) == (0, [1])

    asyncio.run(run())


def test_what_waits_for_the_disk_is_synced_together(disk):
    async def run():
        held = intake(disk)
        disk.free.clear()
        posted = [asyncio.create_task(held.put(record(), labels=[n])) for n in range(6)]
        await asyncio.sleep(0.05)
        disk.free.set()
        await asyncio.gather(*posted)
        entries = await held.take(10, 1)
        assert [entry.labels for entry in entries] == [[n] for n in range(6)]
        assert [a.end for a in entries[:-1]] == [b.place for b in entries[1:]]

    asyncio.run(run())
    assert sum(disk.groups) == 6
    assert len(disk.groups) <= 2


def test_what_has_no_room_is_refused_whole_until_room_is_made(disk):
    async def run():
        held = intake(disk)
        await held.put(record(), labels=[0] * 8)
        with pytest.raises(OverloadedError, match="nothing of this was taken"):
            await held.put(record(), labels=[0] * 3)
        await held.put(record(), labels=[0] * 2)
        entries = await held.take(9, 1)
        assert [entry.items for entry in entries] == [8]
        # Taken is not counted yet: the room is free when it is.
        with pytest.raises(OverloadedError):
            await held.put(record(), labels=[0])
        held.release(entries)
        await held.put(record(), labels=[0] * 8)
        assert held.held == 10

    asyncio.run(run())


def test_the_bytes_are_bounded_too(disk):
    async def run():
        held = intake(disk, most_bytes=1000)
        await held.put(record(b"x" * 600), labels=[0])
        with pytest.raises(OverloadedError):
            await held.put(record(b"x" * 600), labels=[0])

    asyncio.run(run())


def test_a_body_larger_than_all_room_is_taken_when_nothing_is_held(disk):
    async def run():
        held = intake(disk, most=3)
        await held.put(record(), labels=[0] * 9)
        assert [entry.items for entry in await held.take(3, 1)] == [9]

    asyncio.run(run())


def test_a_journal_that_grows_too_large_refuses_until_it_is_trimmed(disk):
    async def run():
        held = intake(disk, journal_bytes=100)
        await held.put(record(b"x" * 100), labels=[0])
        with pytest.raises(OverloadedError, match="journal is full"):
            await held.put(record(), labels=[0])
        held.trimmed()  # this disk keeps nothing
        await held.put(record(), labels=[0])

    asyncio.run(run())


def test_a_full_disk_refuses_and_the_next_is_taken_when_there_is_space(disk):
    async def run():
        held = intake(disk)
        disk.full = True
        with pytest.raises(UnavailableError, match="No space"):
            await held.put(record(), labels=[0] * 9)
        assert held.held == 0
        disk.full = False
        await held.put(record(), labels=[0] * 9)

    asyncio.run(run())


def test_a_sender_that_hangs_up_takes_nothing_back(disk):
    async def run():
        held = intake(disk)
        disk.free.clear()
        first = asyncio.create_task(held.put(record(), labels=["first"]))
        second = asyncio.create_task(held.put(record(), labels=["second"]))
        await asyncio.sleep(0.05)
        first.cancel()
        disk.free.set()
        await second
        assert [entry.labels for entry in await held.take(10, 1)] == [["first"], ["second"]]

    asyncio.run(run())
