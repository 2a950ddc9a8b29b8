"""Answers that wait for their labels, and labels that wait for their answers: tables of the ledger.

Belongs here: the tables and every statement on them. Not here: what a label says
(`outcomes.py`), when one is joined (`joiner.py`).
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from davy.detector.outcomes import Answer, Joined

SCHEMA = """
create table if not exists sources (
    number integer primary key, model text not null, version text not null,
    namespace text not null, service text not null, kind text not null,
    unique (model, version, namespace, service)
);
create table if not exists answers (
    number integer primary key, id blob not null, source integer not null, kept real not null,
    watched integer not null, hard integer not null, labelled integer not null, scores blob not null
);
create index if not exists answers_by_id on answers (id);
create table if not exists labels (
    number integer primary key, id blob not null, model text not null, kept real not null,
    label blob not null
);
create index if not exists labels_by_id on labels (id);
create table if not exists joined (
    number integer primary key, model text not null, version text not null,
    outcome text not null, first real, second real, hard integer not null
);
create index if not exists joined_by_version on joined (model, version);
"""
# In one go, so that a tick is short.
PAGE = 5000


class Source(NamedTuple):
    """Who answered: a version of a model, as an InferenceService where the events name one."""

    model: str
    version: str
    namespace: str
    service: str
    kind: str


class Kept(NamedTuple):
    """An answer, and whether its label has come."""

    number: int
    source: Source
    labelled: bool
    answer: Answer


def _hash(request_id: str) -> bytes:
    return hashlib.blake2b(request_id.encode(), digest_size=16, person=b"davy label").digest()


class Answers:
    """The tables.

    Parameters
    ----------
    db : sqlite3.Connection
        The ledger's; every method that writes runs in one of its transactions.
    most : int
        Answers, and labels, that are kept; the oldest gives way.
    horizon : float
        Seconds that they are kept.
    """

    def __init__(self, db: sqlite3.Connection, *, most: int, horizon: float) -> None:
        self._db, self._most, self._horizon = db, most, horizon
        db.executescript(SCHEMA)
        self._next = 1 + (db.execute("select max(number) from answers").fetchone()[0] or 0)
        self._labels: int = db.execute("select count(*) from labels").fetchone()[0]
        self._new: list[tuple[object, ...]] = []
        self._sources: dict[Source, int] = {}
        self._by_number: dict[int, Source] = {}
        for number, *source in db.execute(
            "select number, model, version, namespace, service, kind from sources"
        ):
            self._remember(Source(*source), number)

    def sources(self) -> list[Source]:
        """Return everyone who has answered."""
        return list(self._sources)

    @property
    def number_of_sources(self) -> int:
        """How many have answered."""
        return len(self._sources)

    def knows(self, source: Source) -> bool:
        """Tell whether a source has answered before."""
        return source in self._sources

    def meet(self, source: Source) -> bool:
        """Know a source; return whether it is new."""
        if source in self._sources:
            return False
        added = self._db.execute(
            "insert into sources (model, version, namespace, service, kind) values (?, ?, ?, ?, ?)"
            " on conflict (model, version, namespace, service) do update set kind = excluded.kind"
            " returning number",
            source,
        ).fetchone()
        self._remember(source, added[0])
        return True

    def forget_idle(self) -> list[Source]:
        """Know no more of those of whom no answer is kept; return them."""
        self.write()
        idle = self._db.execute(
            "delete from sources where number not in (select distinct source from answers)"
            " returning number"
        ).fetchall()
        gone = [self._by_number.pop(number) for (number,) in idle]
        for source in gone:
            del self._sources[source]
        return gone

    def _remember(self, source: Source, number: int) -> None:
        self._sources[source] = number
        self._by_number[number] = source

    # Answers.

    def keep(self, request_id: str, source: Source, answer: Answer, now: float) -> int:
        """Keep an answer at a time in Unix seconds; return its number."""
        number = self._next
        self._next += 1
        scores = answer.scores.astype("<f8").tobytes()
        key, source_number = _hash(request_id), self._sources[source]
        self._new.append((number, key, source_number, now, answer.row, answer.hard, scores))
        return number

    def write(self) -> None:
        """Write the answers that were kept since the last time; before a transaction ends."""
        new, self._new = self._new, []
        self._db.executemany(
            "insert into answers (number, id, source, kept, watched, hard, labelled, scores)"
            " values (?, ?, ?, ?, ?, ?, 0, ?)",
            new,
        )

    def find(self, request_id: str, model: str) -> list[Kept]:
        """Return the answers to a request; those of a model, where one is named."""
        self.write()
        rows = self._db.execute(
            "select number, source, watched, hard, labelled, scores from answers where id = ?",
            (_hash(request_id),),
        ).fetchall()
        found = []
        for number, source, watched, hard, labelled, scores in rows:
            who = self._by_number[source]
            if model in ("", who.model):
                values = np.frombuffer(scores, "<f8")
                answer = Answer(who.kind, values, watched, bool(hard))  # type: ignore[arg-type]
                found.append(Kept(number, who, bool(labelled), answer))
        return found

    def labelled(self, number: int) -> None:
        """Say that an answer's label has come."""
        self.write()
        self._db.execute("update answers set labelled = 1 where number = ?", (number,))

    def expire(self, now: float) -> Mapping[Source, int]:
        """Let go of old answers; return how many of each source never had a label."""
        self.write()
        rows = self._db.execute(
            "select number, source, labelled, kept from answers order by number limit ?", (PAGE,)
        ).fetchall()
        last = self._last("answers", [(row[0], row[3]) for row in rows], now)
        self._db.execute("delete from answers where number <= ?", (last,))
        lost = Counter(row[1] for row in rows if row[0] <= last and not row[2])
        return {self._by_number[number]: count for number, count in lost.items()}

    # Labels.

    def wait(self, request_id: str, model: str, label: tuple[float, ...], now: float) -> bool:
        """Keep a label whose answer has not come; return False where one waits already."""
        key = (_hash(request_id), model)
        found = self._db.execute("select 1 from labels where id = ? and model = ?", key)
        if found.fetchone():
            return False
        self._db.execute(
            "insert into labels (id, model, kept, label) values (?, ?, ?, ?)",
            (*key, now, np.array(label, "<f8").tobytes()),
        )
        self._labels += 1
        return True

    def waiting(self, request_id: str, model: str) -> tuple[int, tuple[float, ...]] | None:
        """Return the label that waits for an answer of a model, and its number."""
        if not self._labels:
            return None
        found = self._db.execute(
            "select number, label from labels where id = ? and model in ('', ?)",
            (_hash(request_id), model),
        ).fetchone()
        return (found[0], tuple(np.frombuffer(found[1], "<f8").tolist())) if found else None

    def met(self, number: int) -> None:
        """Let go of a label that met its answer."""
        self._db.execute("delete from labels where number = ?", (number,))
        self._labels -= 1

    def expire_labels(self, now: float) -> int:
        """Let go of old labels; return how many there were."""
        rows = self._db.execute(
            "select number, kept from labels order by number limit ?", (PAGE,)
        ).fetchall()
        last = self._last("labels", rows, now)
        gone = self._db.execute("delete from labels where number <= ?", (last,)).rowcount
        self._labels -= gone
        return gone

    def _last(self, table: str, rows: list[tuple[int, float]], now: float) -> int:
        """Return the last of the oldest rows that is too old or too much."""
        newest = self._db.execute(f"select max(number) from {table}").fetchone()[0] or 0  # noqa: S608
        last = 0
        for number, kept in rows:
            if now - kept < self._horizon and number > newest - self._most:
                break
            last = number
        return last

    # What was joined.

    def add_joined(self, source: Source, joined: Joined, *, hard: bool, most: int) -> None:
        """Keep a joined label among the last ones of its version."""
        key = (source.model, source.version)
        self._db.execute(
            "insert into joined (model, version, outcome, first, second, hard)"
            " values (?, ?, ?, ?, ?, ?)",
            (*key, joined.outcome or "", joined.first, joined.second, hard),
        )
        self._db.execute(
            "delete from joined where number <= (select number from joined where model = ? and"
            " version = ? order by number desc limit 1 offset ?)",
            (*key, most),
        )

    def joined(self, model: str, version: str) -> tuple[list[Joined], bool]:
        """Return the last joined labels of a version, and whether they are of classes."""
        rows = self._db.execute(
            "select outcome, first, second, hard from joined where model = ? and version = ?"
            " order by number",
            (model, version),
        ).fetchall()
        nan = float("nan")
        found = [
            Joined(outcome or None, nan if first is None else first, nan if s is None else s)
            for outcome, first, s, _ in rows
        ]
        return found, bool(rows and rows[-1][3])
