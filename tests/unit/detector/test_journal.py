import os

import pytest

from davy.core.errors import ConflictError
from davy.detector.journal import FolderJournal, NoJournal


@pytest.fixture
def open_journal(tmp_path):
    """Return a function that opens the journal anew, as after a crash."""
    opened = []

    def make(**options):
        for journal in opened:
            journal.close()
        opened[:] = [FolderJournal(tmp_path / "journal", **options)]
        return opened[0]

    yield make
    for journal in opened:
        journal.close()


def contents(journal, place=0):
    return [frame.content for frame in journal.read(place)]


def segments(tmp_path):
    return sorted((tmp_path / "journal").glob("*.journal"))


def test_what_was_appended_is_read_in_order_by_the_next_process(open_journal):
    journal = open_journal()
    places = journal.append([b"a", b""]) + journal.append([b"ccc"])
    assert places == [(0, 9), (9, 17), (17, 28)]
    journal = open_journal()
    assert [tuple(frame) for frame in journal.read(0)] == [
        (0, 9, b"a"),
        (9, 17, b""),
        (17, 28, b"ccc"),
    ]
    assert contents(journal, 17) == [b"ccc"]
    assert contents(journal, 18) == [b"ccc"]  # a place within a frame is that of an event in it
    assert contents(journal, 28) == []
    assert journal.append([b"d"]) == [(28, 37)]
    assert contents(journal) == [b"a", b"", b"ccc", b"d"]


@pytest.mark.parametrize("cut", range(1, 13))
def test_a_torn_end_is_cut_off_and_what_was_whole_is_kept(open_journal, tmp_path, cut):
    open_journal().append([b"whole", b"torn!"])
    path = segments(tmp_path)[0]
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - cut)
    journal = open_journal()
    assert contents(journal) == [b"whole"]
    journal.append([b"after"])
    assert contents(open_journal()) == [b"whole", b"after"]


def test_a_damaged_frame_costs_the_rest_of_its_segment_and_nothing_else(
    open_journal, tmp_path, capsys
):
    journal = open_journal(segment_bytes=20)
    for content in (b"one one", b"two two", b"three 3", b"four 44"):
        journal.append([content])
    first = segments(tmp_path)[0]
    damaged = bytearray(first.read_bytes())
    damaged[10] ^= 1
    first.write_bytes(damaged)
    assert contents(open_journal()) == [b"three 3", b"four 44"]
    assert "journal_damaged" in capsys.readouterr().out


def test_segments_that_are_done_with_are_removed_and_places_go_on(open_journal, tmp_path):
    journal = open_journal(segment_bytes=100)
    ends = [journal.append([b"x" * 92])[0][1] for _ in range(5)]
    assert len(segments(tmp_path)) == 5
    journal.trim(ends[2] - 1)
    assert [path.stem for path in segments(tmp_path)] == [f"{n:020d}" for n in (200, 300, 400)]
    journal.trim(ends[4])
    assert len(segments(tmp_path)) == 1
    assert journal.size == 100
    assert open_journal().append([b"y"]) == [(500, 509)]


def test_a_journal_that_was_lost_gives_no_place_again(open_journal):
    assert open_journal(begin=1000).append([b"x"]) == [(1000, 1009)]


def test_a_failed_sync_keeps_nothing_of_what_it_was_to_keep(open_journal, monkeypatch):
    journal = open_journal()
    journal.append([b"before"])
    with monkeypatch.context() as patch:

        def fail(file):
            raise OSError(28, "No space left on device")

        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(OSError, match="No space"):
            journal.append([b"lost"])
    journal.append([b"after"])
    assert contents(journal) == [b"before", b"after"]
    assert contents(open_journal()) == [b"before", b"after"]


def test_bytes_that_a_failed_write_could_not_cut_off_are_not_read(open_journal, monkeypatch):
    journal = open_journal()
    journal.append([b"before"])
    with monkeypatch.context() as patch:

        def fail(*_):
            raise OSError(5, "Input/output error")

        patch.setattr(os, "fdatasync", fail)
        patch.setattr(os, "ftruncate", fail)
        with pytest.raises(OSError, match="Input/output"):
            journal.append([b"lost"])
    journal.append([b"after!!!"])
    assert contents(open_journal()) == [b"before", b"after!!!"]


def test_two_detectors_do_not_share_a_journal(open_journal, tmp_path):
    open_journal()
    with pytest.raises(ConflictError, match="another detector"):
        FolderJournal(tmp_path / "journal")


def test_without_a_folder_places_are_given_all_the_same():
    journal = NoJournal()
    assert journal.append([b"a", b"bb"]) + journal.append([b""]) == [(0, 9), (9, 19), (19, 27)]
    assert list(journal.read(0)) == []
