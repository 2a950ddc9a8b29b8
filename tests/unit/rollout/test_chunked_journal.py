"""The record in chunks: what is written can be read, and only over what was read."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from davy.core.errors import InvalidInputError, TemporaryError
from davy.rollout.adapters.chunked_journal import Chunk, ChunkedJournal, LineTooLongError
from davy.rollout.decide import decide
from davy.rollout.operator.trouble import trouble
from davy.rollout.record import Header, LookLine, look_line
from davy.rollout.spec import RolloutSpec
from davy.rollout.state import Observation, State

START = datetime(2017, 1, 2, tzinfo=UTC)
SPEC = RolloutSpec.model_validate(
    {
        "candidate": {"version": "v2"},
        "steps": [{"weight": 5}],
        "analysis": {"indicators": [{"name": "errors"}], "vetoes": []},
    }
)
HEADER = Header(
    time=START,
    rollout="shop/next-basket",
    generation=1,
    settings_hash=SPEC.settings_hash(),
    spec=SPEC.document(),
    stable="v1",
    canary="v2",
    latency_objective_seconds=0.1,
)


@dataclass
class ChunksInMemory:
    kept: dict[int, Chunk] = field(default_factory=dict)
    versions: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    lost_answer: bool = False

    def read(self) -> Sequence[Chunk]:
        return sorted(self.kept.values(), key=lambda chunk: -chunk.number)

    def version(self, number: int) -> str:
        return self.kept[number].version if number in self.kept else ""

    def create(self, number: int, data: bytes) -> Chunk:
        if number in self.kept:
            raise TemporaryError("is there already")
        return self._write(number, data)

    def replace(self, chunk: Chunk, data: bytes) -> Chunk:
        if self.kept[chunk.number].version != chunk.version:
            raise TemporaryError("was changed since")
        return self._write(chunk.number, data)

    def seal(self, chunk: Chunk) -> None:
        if self.kept[chunk.number].version != chunk.version:
            raise TemporaryError("was changed since")
        self._write(chunk.number, chunk.data, sealed=True)

    def _write(self, number: int, data: bytes, *, sealed: bool = False) -> Chunk:
        self.kept[number] = Chunk(number, data, str(next(self.versions)), sealed)
        if self.lost_answer:
            self.lost_answer = False
            raise TemporaryError("no answer: written or not?")
        return self.kept[number]


def lines(number: int) -> list[LookLine]:
    state, found = State(), []
    for look in range(number):
        now = START + timedelta(seconds=30 * look)
        decision = decide(SPEC, state, Observation(weight=0), now)
        found.append(look_line(HEADER, state.weight, Observation(weight=0), decision, now))
        state = decision.state
    return found


def test_what_was_written_is_read_by_another_process_over_many_chunks() -> None:
    chunks = ChunksInMemory()
    journal = ChunkedJournal(chunks, where="here", chunk_bytes=3000)
    journal.begin(HEADER)
    for line in lines(40):
        journal.append(line)
    assert len(chunks.kept) > 3
    assert max(len(chunk.data) for chunk in chunks.kept.values()) <= 3000
    record = ChunkedJournal(chunks, where="here").read()
    assert record is not None
    assert record.header == HEADER
    # Each carries the hash of the line before it, too.
    assert [line.model_copy(update={"previous": ""}) for line in record.looks] == lines(40)


def test_nothing_was_written() -> None:
    assert ChunkedJournal(ChunksInMemory(), where="here").read() is None


def test_a_line_longer_than_a_chunk_has_one_of_its_own() -> None:
    chunks = ChunksInMemory()
    journal = ChunkedJournal(chunks, where="here", chunk_bytes=10)
    journal.begin(HEADER)
    for line in lines(3):
        journal.append(line)
    assert sorted(chunks.kept) == [0, 1, 2, 3]


def test_a_line_that_no_chunk_can_hold_is_refused_for_good_and_nothing_is_written() -> None:
    chunks = ChunksInMemory()
    (short,) = lines(1)
    journal = ChunkedJournal(chunks, where="here", most_bytes=3000)
    journal.begin(HEADER)
    long = short.model_copy(update={"not_ready": ["v" * 3000]})
    with pytest.raises(LineTooLongError, match="ConfigMap can hold 3000") as caught:
        journal.append(long)
    found = trouble(caught.value)
    assert (found.reason, found.permanent) == ("RecordLineTooLong", True)
    # Another line still goes where it should.
    journal.append(short)
    record = journal.read()
    assert record is not None
    assert len(record.looks) == 1
    with pytest.raises(LineTooLongError, match="fewer pods"):
        ChunkedJournal(ChunksInMemory(), where="here", most_bytes=10).begin(HEADER)


def test_of_two_that_write_the_second_is_refused() -> None:
    chunks = ChunksInMemory()
    one = ChunkedJournal(chunks, where="here")
    one.begin(HEADER)
    other = ChunkedJournal(chunks, where="here")
    other.read()
    first, second = lines(2)
    one.append(first)
    with pytest.raises(TemporaryError):
        other.append(first)
    record = other.read()
    assert record is not None
    assert len(record.looks) == 1
    other.append(second)
    with pytest.raises(TemporaryError):
        one.append(second)


def test_of_two_that_begin_a_chunk_the_second_is_refused() -> None:
    chunks = ChunksInMemory()
    one = ChunkedJournal(chunks, where="here", chunk_bytes=10)
    one.begin(HEADER)
    other = ChunkedJournal(chunks, where="here", chunk_bytes=10)
    other.read()
    (line,) = lines(1)
    one.append(line)
    with pytest.raises(TemporaryError):
        other.append(line)


def test_one_that_read_a_chunk_before_it_was_full_cannot_write_into_it() -> None:
    chunks = ChunksInMemory()
    one = ChunkedJournal(chunks, where="here", chunk_bytes=10)
    one.begin(HEADER)
    slow = ChunkedJournal(chunks, where="here", chunk_bytes=10**6)
    slow.read()
    first, second = lines(2)
    one.append(first)
    with pytest.raises(TemporaryError):
        slow.append(first)
    record = slow.read()
    assert record is not None
    assert len(record.looks) == 1
    slow.append(second)


@pytest.mark.parametrize("chunk_bytes", [1, 100_000], ids=["a chunk a line", "one chunk"])
def test_one_that_another_has_written_over_is_told_so(chunk_bytes: int) -> None:
    chunks = ChunksInMemory()
    one = ChunkedJournal(chunks, where="r", chunk_bytes=chunk_bytes)
    one.begin(HEADER)
    first, second = lines(2)
    one.append(first)
    one.check()
    other = ChunkedJournal(chunks, where="r", chunk_bytes=chunk_bytes)
    other.read()
    other.append(second)
    other.check()
    with pytest.raises(TemporaryError, match="another operator is at work"):
        one.check()
    one.read()
    one.check()


def test_one_that_has_read_a_sealed_chunk_is_told_of_the_next() -> None:
    chunks = ChunksInMemory()
    begun = ChunkedJournal(chunks, where="r")
    begun.begin(HEADER)
    chunks.seal(chunks.kept[0])
    one, other = (ChunkedJournal(chunks, where="r") for _ in range(2))
    one.read()
    one.check()
    other.read()
    other.append(lines(1)[0])
    with pytest.raises(TemporaryError, match="another operator is at work"):
        one.check()


def test_a_kill_between_sealing_and_the_next_chunk_loses_nothing() -> None:
    chunks = ChunksInMemory()
    journal = ChunkedJournal(chunks, where="here", chunk_bytes=10)
    journal.begin(HEADER)
    chunks.seal(chunks.kept[0])  # and then no more
    after = ChunkedJournal(chunks, where="here", chunk_bytes=10**6)
    after.read()
    (line,) = lines(1)
    after.append(line)
    assert sorted(chunks.kept) == [0, 1]
    record = ChunkedJournal(chunks, where="here").read()
    assert record is not None
    assert len(record.looks) == 1


def test_a_write_whose_answer_was_lost_is_not_repeated() -> None:
    chunks = ChunksInMemory()
    journal = ChunkedJournal(chunks, where="here")
    journal.begin(HEADER)
    first, second = lines(2)
    chunks.lost_answer = True
    with pytest.raises(TemporaryError):
        journal.append(first)
    with pytest.raises(InvalidInputError):
        journal.append(first)
    record = journal.read()
    assert record is not None
    assert len(record.looks) == 1
    journal.append(second)


def test_one_that_leads_no_more_writes_nothing() -> None:
    chunks, leading = ChunksInMemory(), [True]
    journal = ChunkedJournal(chunks, where="here", may_write=lambda: leading[0])
    journal.begin(HEADER)
    leading[0] = False
    with pytest.raises(TemporaryError, match="not the leader"):
        journal.append(lines(1)[0])
    with pytest.raises(TemporaryError, match="not the leader"):
        journal.begin(HEADER)
    leading[0] = True
    journal.append(lines(1)[0])


def test_a_missing_chunk_is_damage() -> None:
    chunks = ChunksInMemory()
    journal = ChunkedJournal(chunks, where="here", chunk_bytes=10)
    journal.begin(HEADER)
    for line in lines(3):
        journal.append(line)
    del chunks.kept[2]
    with pytest.raises(InvalidInputError, match=r"here: chunks \[0, 1, 3\] are there"):
        journal.read()
