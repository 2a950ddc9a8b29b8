"""The journal's file: its lock, and what a crash leaves behind."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from davy.core.errors import ConflictError, InvalidInputError, TemporaryError
from davy.rollout.adapters.folder_journal import FolderJournal
from davy.rollout.record import DecisionLine, Header, Intervals, LookLine, Weights

TIME = datetime(2017, 1, 2, tzinfo=UTC)
HEADER = Header(
    time=TIME,
    rollout="r",
    generation=1,
    settings_hash="h",
    spec={},
    stable="v1",
    canary="v2",
    latency_objective_seconds=0.1,
)


def look(number: int) -> LookLine:
    return LookLine(
        look=number,
        time=TIME,
        rollout="r",
        generation=1,
        settings_hash="h",
        weights=Weights(asked=0, read=0),
        intervals=Intervals(),
        verdicts=[],
        vetoes=[],
        decision=DecisionLine(
            action="hold", reason="x", message="", phase="Pending", step=-1, weight=0
        ),
    )


def test_what_was_written_is_read_by_the_next_process(tmp_path: Path) -> None:
    with FolderJournal(tmp_path / "deep" / "folder") as journal:
        assert journal.read() is None
        journal.begin(HEADER)
        journal.append(look(1))
    with FolderJournal(tmp_path / "deep" / "folder") as journal:
        record = journal.read()
    assert record is not None
    assert record.header == HEADER
    assert [line.look for line in record.looks] == [1]


def test_an_unfinished_last_line_is_cut_off_the_file(tmp_path: Path) -> None:
    with FolderJournal(tmp_path) as journal:
        journal.begin(HEADER)
        journal.append(look(1))
        whole = journal.path.read_bytes()
        with journal.path.open("ab") as file:
            file.write(b'{"kind":"look","loo')
        record = journal.read()
        assert record is not None
        assert record.cut_bytes == 19
        assert journal.path.read_bytes() == whole
        journal.append(look(2))
        again = journal.read()
    assert again is not None
    assert [line.look for line in again.looks] == [1, 2]


def test_an_unfinished_header_leaves_an_empty_record(tmp_path: Path) -> None:
    (tmp_path / "record.jsonl").write_bytes(b'{"kind":"head')
    with FolderJournal(tmp_path) as journal:
        assert journal.read() is None
        journal.begin(HEADER)
        record = journal.read()
    assert record is not None


def test_damage_in_the_middle_is_refused(tmp_path: Path) -> None:
    with FolderJournal(tmp_path) as journal:
        journal.begin(HEADER)
        with journal.path.open("ab") as file:
            file.write(b"garbage\n")
        with pytest.raises(InvalidInputError, match="line 2"):
            journal.read()


def test_a_second_rollout_on_the_same_folder_is_refused_naming_the_first(tmp_path: Path) -> None:
    with (
        FolderJournal(tmp_path),
        pytest.raises(ConflictError, match=rf"process {os.getpid()}.*another folder"),
    ):
        FolderJournal(tmp_path)
    FolderJournal(tmp_path).close()


def test_a_process_that_was_killed_leaves_no_lock(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, signal, sys\n"
        "from davy.rollout.adapters.folder_journal import FolderJournal\n"
        "journal = FolderJournal(pathlib.Path(sys.argv[1]))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert ended.returncode == -9
    FolderJournal(tmp_path).close()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInputError, match="cannot be written"):
        FolderJournal(tmp_path / "file" / "folder")


def test_a_full_disk_leaves_whole_lines_and_can_be_tried_again(tmp_path: Path) -> None:
    """The limit of the file's size stands in for the disk's: a write of a part, then an error."""
    with FolderJournal(tmp_path) as journal:
        journal.begin(HEADER)
        whole = journal.path.read_bytes()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 20, hard))
        try:
            with pytest.raises(TemporaryError, match=r"cannot be written.*free the disk"):
                journal.append(look(1))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, before)
        assert journal.path.read_bytes() == whole
        journal.append(look(1))
        record = journal.read()
    assert record is not None
    assert [line.look for line in record.looks] == [1]
