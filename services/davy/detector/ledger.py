"""What the detector has counted, and up to where: one SQLite file, one transaction a batch.

Belongs here: the tables and every statement on them. Not here: what is counted, and when.

The position in the journal is part of the transaction that counts what was read up to there. So
after a crash either both are there or neither is, and reading on from the position counts
everything once. Without a folder the ledger is in memory, and ends with the process.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from davy.core.errors import ConfigurationError
from davy.detector.pairing import Kind, Standing

SCHEMA = """
create table if not exists meta (name text primary key, value text not null) without rowid;
create table if not exists exchanges (
    number integer primary key, key blob not null unique,
    request integer, response integer, state integer not null
);
create table if not exists counters (
    name text not null, labels text not null, value integer not null,
    primary key (name, labels)
) without rowid;
create table if not exists rows (
    number integer primary key, version text not null, time text not null, cells blob not null
);
create index if not exists rows_by_version on rows (version);
create table if not exists streaks (version text primary key, value text not null) without rowid;
"""
FORMAT = "1"
_OPEN, _SETTLED, _DONE = 0, 1, 2
_STANDINGS: Mapping[int, Standing] = {_OPEN: "again", _SETTLED: "settled", _DONE: "done"}

_PAGE = 500

CounterKey = tuple[str, tuple[str, ...]]


class _Exchange(NamedTuple):
    request: int | None
    response: int | None
    state: int
    changed: bool = False


_UNKNOWN = _Exchange(None, None, _OPEN)


class Ledger:
    """The detector's own database.

    Parameters
    ----------
    path : Path, optional
        Its file; in memory where absent.
    remembered : int
        Exchanges of which the ids are remembered, the newest; an older one that is told again
        counts again.

    Raises
    ------
    ConfigurationError
        The file is no ledger, or one of another format.
    """

    def __init__(self, path: Path | None = None, *, remembered: int = 1_000_000) -> None:
        self._remembered = remembered
        self._counted: Counter[CounterKey] = Counter()
        # Written together when the transaction ends: a statement a row would cost most of the time.
        self._exchanges: dict[bytes, _Exchange] = {}
        self._rows: list[tuple[int, str, str, bytes]] = []
        self._before_commit: list[Callable[[], None]] = []
        where = str(path) if path else ":memory:"
        try:
            # One task uses it, of whichever thread runs the loop.
            self._db = sqlite3.connect(where, isolation_level=None, check_same_thread=False)
            self._db.execute("pragma journal_mode = wal")
            # A commit survives the process; `durably` makes it survive the machine, too.
            self._db.execute("pragma synchronous = normal")
            self._db.executescript(SCHEMA)
        except sqlite3.Error as error:
            raise ConfigurationError(
                f"cannot be used as the detector's ledger: {error}",
                where=where,
                fix="Give DAVY_DETECTOR_STATE a folder of its own that can be written",
            ) from None
        if self._meta("format", FORMAT) != FORMAT:
            raise ConfigurationError(
                f"has format {self._meta('format', '')}, this Davy writes {FORMAT}",
                where=where,
                fix="Run the Davy that wrote it, or move the folder away",
            )
        self.set("format", FORMAT)
        self._next_row = 1 + (self._db.execute("select max(number) from rows").fetchone()[0] or 0)

    @property
    def connection(self) -> sqlite3.Connection:
        """The database, for tables of others; what they write is part of the transactions here."""
        return self._db

    def before_commit(self, write: Callable[[], None]) -> None:
        """Have something written at the end of every transaction, as part of it."""
        self._before_commit.append(write)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def transaction(self, *, durably: bool = False) -> Iterator[None]:
        """Keep all that is written inside, or none of it.

        ``durably`` makes it, and all before it, survive a loss of power.
        """
        if durably:
            self._db.execute("pragma synchronous = full")
        self._db.execute("begin immediate")
        try:
            yield
            for write in self._before_commit:
                write()
            self._write_exchanges()
            self._write_rows()
            for (name, labels), value in self._counted.items():
                self._db.execute(
                    "insert into counters values (?, ?, ?) on conflict (name, labels)"
                    " do update set value = value + excluded.value",
                    (name, json.dumps(labels), value),
                )
        except BaseException:
            self._db.execute("rollback")
            raise
        else:
            self._db.execute("commit")
        finally:
            self._counted.clear()
            self._exchanges.clear()
            self._rows.clear()
            if durably:
                self._db.execute("pragma synchronous = normal")

    # Positions.

    @property
    def position(self) -> int:
        """The place in the journal up to which everything is counted."""
        return int(self._meta("position", "0"))

    @position.setter
    def position(self, place: int) -> None:
        self.set("position", str(place))

    def set(self, name: str, value: str) -> None:
        """Keep a value under a name."""
        self._db.execute(
            "insert into meta values (?, ?) on conflict (name) do update set value = excluded.value"
            " where value <> excluded.value",
            (name, value),
        )

    def get(self, name: str) -> str:
        """Return the value under a name, or nothing."""
        return self._meta(name, "")

    def _meta(self, name: str, default: str) -> str:
        found = self._db.execute("select value from meta where name = ?", (name,)).fetchone()
        return str(found[0]) if found else default

    # Exchanges.

    def prepare(self, keys: Iterable[bytes]) -> None:
        """Read what is known of exchanges in one go, before they are claimed."""
        wanted = list({key for key in keys if key not in self._exchanges})
        for at in range(0, len(wanted), _PAGE):
            page = wanted[at : at + _PAGE]
            marks = ",".join("?" * len(page))
            self._exchanges |= dict.fromkeys(page, _UNKNOWN)
            for key, *known in self._db.execute(
                f"select key, request, response, state from exchanges where key in ({marks})",  # noqa: S608 (only question marks)
                page,
            ):
                self._exchanges[key] = _Exchange(*known)

    def claim(self, key: bytes, kind: Kind, place: int) -> Standing:
        """Remember an event, and return what is known of it; see `Known.claim`."""
        if key not in self._exchanges:
            self.prepare([key])
        known = self._exchanges[key]
        held = known.request if kind == "request" else known.response
        if held is None:
            after = (
                known._replace(request=place)
                if kind == "request"
                else known._replace(response=place)
            )
            self._exchanges[key] = after._replace(changed=True)
            return "new" if known.state == _OPEN else "late"
        return _STANDINGS[known.state] if held == place else "duplicate"

    def forget(self, key: bytes) -> None:
        """Know no more of an exchange that never was one."""
        self._exchanges.pop(key, None)
        self._db.execute("delete from exchanges where key = ?", (key,))

    def settle(self, key: bytes, *, done: bool = False) -> None:
        """Say that an exchange was counted, and whether nothing is left to do with it."""
        if key not in self._exchanges:
            self.prepare([key])
        state = _DONE if done else _SETTLED
        self._exchanges[key] = self._exchanges[key]._replace(state=state, changed=True)

    def finish(self, keys: Iterable[bytes]) -> None:
        """Say that nothing is left to do with these exchanges."""
        self._db.executemany(
            "update exchanges set state = ? where key = ?", [(_DONE, key) for key in keys]
        )

    def _write_exchanges(self) -> None:
        self._db.executemany(
            "insert into exchanges (key, request, response, state) values (?, ?, ?, ?)"
            " on conflict (key) do update set request = excluded.request,"
            " response = excluded.response, state = excluded.state",
            [
                (key, known.request, known.response, known.state)
                for key, known in self._exchanges.items()
                if known.changed
            ],
        )

    def prune(self) -> None:
        """Forget the oldest exchanges that are more than are to be remembered."""
        newest = self._db.execute("select max(number) from exchanges").fetchone()[0] or 0
        self._db.execute("delete from exchanges where number <= ?", (newest - self._remembered,))

    # Counters.

    def count(self, name: str, labels: tuple[str, ...], value: int = 1) -> None:
        """Add to a counter, within a transaction; 0 makes it known."""
        self._counted[name, labels] += value

    def drop_counter(self, name: str, labels: tuple[str, ...]) -> None:
        """Know a counter no more."""
        self._counted.pop((name, labels), None)
        self._db.execute(
            "delete from counters where name = ? and labels = ?", (name, json.dumps(labels))
        )

    def rises(self) -> Mapping[CounterKey, int]:
        """Return what this transaction has added so far."""
        return dict(self._counted)

    def counters(self) -> Mapping[CounterKey, int]:
        """Return every counter as it was committed."""
        found = self._db.execute("select name, labels, value from counters")
        return {(name, tuple(json.loads(labels))): value for name, labels, value in found}

    # Rows of the windows that are being filled.

    def add_row(self, version: str, time: str, cells: bytes) -> int:
        """Keep a row of a window; return its number."""
        number = self._next_row
        self._next_row += 1
        self._rows.append((number, version, time, cells))
        return number

    def rows(self, version: str) -> list[tuple[int, str, bytes]]:
        """Return the rows of a version's open window, in the order that they came."""
        self._write_rows()
        return self._db.execute(
            "select number, time, cells from rows where version = ? order by number", (version,)
        ).fetchall()

    def drop_rows(self, numbers: Iterable[int]) -> None:
        """Remove the rows of a window that ended."""
        self._write_rows()
        self._db.executemany("delete from rows where number = ?", [(n,) for n in numbers])

    def _write_rows(self) -> None:
        rows, self._rows = self._rows, []
        self._db.executemany(
            "insert into rows (number, version, time, cells) values (?, ?, ?, ?)", rows
        )

    def drop_version(self, version: str) -> None:
        """Remove the open window and the streaks of a version."""
        self._write_rows()
        self._db.execute("delete from rows where version = ?", (version,))
        self._db.execute("delete from streaks where version = ?", (version,))

    def save_streaks(self, version: str, value: Any) -> None:
        """Keep how long each feature of a version has drifted, as JSON."""
        self._db.execute(
            "insert into streaks values (?, ?) on conflict (version) do update set"
            " value = excluded.value",
            (version, json.dumps(value)),
        )

    def streaks(self, version: str) -> Any:
        """Return what `save_streaks` kept, or None."""
        found = self._db.execute(
            "select value from streaks where version = ?", (version,)
        ).fetchone()
        return json.loads(found[0]) if found else None
