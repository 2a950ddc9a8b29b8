import sqlite3

import pytest

from davy.core.errors import ConfigurationError
from davy.detector.ledger import Ledger


@pytest.fixture
def reopened(tmp_path):
    """Return a function that opens the ledger anew."""
    opened = []

    def make(**options):
        for ledger in opened:
            ledger.close()
        opened[:] = [Ledger(tmp_path / "ledger.sqlite", **options)]
        return opened[0]

    yield make
    for ledger in opened:
        ledger.close()


def test_counters_and_the_position_are_committed_together(reopened):
    ledger = reopened()
    with ledger.transaction():
        ledger.count("events", ("m", "v1"), 2)
        ledger.count("events", ("m", "v1"))
        ledger.count("outcomes", ("m", "v1", "wrong"), 0)
        ledger.position = 70
        assert ledger.rises() == {("events", ("m", "v1")): 3, ("outcomes", ("m", "v1", "wrong")): 0}
    assert ledger.rises() == {}
    with ledger.transaction(durably=True):
        ledger.count("events", ("m", "v1"))
    ledger = reopened()
    assert ledger.counters() == {
        ("events", ("m", "v1")): 4,
        ("outcomes", ("m", "v1", "wrong")): 0,
    }
    assert ledger.position == 70


def test_a_transaction_that_fails_leaves_nothing(reopened):
    ledger = reopened()

    def fail():
        with ledger.transaction():
            ledger.count("events", ("m",))
            ledger.claim(b"key", "request", 1)
            ledger.position = 5
            raise RuntimeError("in between")

    with pytest.raises(RuntimeError, match="in between"):
        fail()
    with ledger.transaction():
        assert ledger.claim(b"key", "request", 9) == "new"
    assert (ledger.counters(), ledger.position) == ({}, 0)


def test_only_so_many_exchanges_are_remembered_the_newest(reopened):
    ledger = reopened(remembered=3)
    with ledger.transaction():
        for number in range(5):
            ledger.claim(bytes([number]), "request", number)
    with ledger.transaction():
        ledger.prune()
        assert [ledger.claim(bytes([n]), "request", 99) for n in (4, 3, 2, 1)] == [
            "duplicate",
            "duplicate",
            "duplicate",
            "new",
        ]


def test_rows_and_streaks_of_a_version_are_kept_until_they_are_dropped(reopened):
    ledger = reopened()
    with ledger.transaction():
        numbers = [ledger.add_row("v1", f"t{n}", bytes([n])) for n in range(3)]
        other = ledger.add_row("v2", "t", b"x")
        ledger.save_streaks("v1", [1, 2])
        ledger.save_streaks("v1", [3])
    ledger = reopened()
    assert [row[1:] for row in ledger.rows("v1")] == [("t0", b"\0"), ("t1", b"\1"), ("t2", b"\2")]
    with ledger.transaction():
        ledger.drop_rows(numbers[:2])
    assert [row[0] for row in ledger.rows("v1")] == numbers[2:]
    assert ledger.streaks("v1") == [3]
    with ledger.transaction():
        ledger.drop_version("v1")
    assert (ledger.rows("v1"), ledger.streaks("v1")) == ([], None)
    assert [row[0] for row in ledger.rows("v2")] == [other]


def test_a_file_that_is_no_ledger_is_refused_with_what_to_do(tmp_path):
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"something else entirely, and long enough to be looked at" * 20)
    with pytest.raises(ConfigurationError, match="DAVY_DETECTOR_STATE"):
        Ledger(path)


def test_a_ledger_of_another_format_is_refused(tmp_path, reopened):
    reopened()
    with sqlite3.connect(tmp_path / "ledger.sqlite") as other:
        other.execute("update meta set value = '99' where name = 'format'")
    other.close()
    with pytest.raises(ConfigurationError, match="format 99"):
        Ledger(tmp_path / "ledger.sqlite")
