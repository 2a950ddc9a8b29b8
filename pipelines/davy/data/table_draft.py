"""A first task for a table that nobody described: `davy task init`.

Belongs here: guesses about columns, the commented YAML. Not here: what a task may say.

A guess that decides what is learnt (label, time, entity) is written as a question: only a person
knows whether a column was known at the time of the prediction.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from davy.core.errors import InvalidInputError
from davy.core.files import nearest
from davy.data.table import as_numbers, as_text, as_times, read_frame
from davy.data.table_task import RESERVED

LABELS = ("label", "target", "y", "class", "outcome", "churn", "churned", "response", "fraud")
MOST_CATEGORIES = 50
MOST_CLASSES = 20
# A column counts as numbers when nearly all that is there can be read as one.
NUMBERS = 0.95
_IDENTIFIER = re.compile(r"(^|_)id$|^id(_|$)")
_TIME = re.compile(r"(^|_)(time|date|timestamp|day|month|at)($|_)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Column:
    """What was seen of one column."""

    column: str
    name: str
    form: str
    missing: int
    wrong: int
    rows: int
    low: float = 0.0
    high: float = 0.0
    values: tuple[tuple[str, int], ...] = ()


def draft_task(table: Path, *, label: str | None = None) -> str:
    """Return the YAML of a first task for a table, with comments and questions.

    Parameters
    ----------
    table : Path
        A CSV or Parquet file.
    label : str, optional
        The column to predict; guessed by its name when absent, else the last column.

    Raises
    ------
    NotFoundError, InvalidInputError
        The table cannot be read, has no such label, or no column that a model can use.
    """
    frame = read_frame(table)
    names = [str(name) for name in frame.columns]
    if label is not None and label not in names:
        raise InvalidInputError(
            f"no column '{label}'{nearest(label, names)}", where=str(table), fix=_columns(names)
        )
    guessed = next((name for name in names if name.lower() in LABELS), names[-1])
    target = label or guessed
    columns = [_look(name, frame[name]) for name in names]
    seen = next(column for column in columns if column.column == target)
    rest = [column for column in columns if column.column != target]
    if not any(column.form in ("number", "category") for column in rest):
        raise InvalidInputError("no column that a model can use", where=str(table))
    lines = [*_head(table, seen, rest, asked=label is None), *_features(rest), *_tail(seen)]
    return "\n".join(lines) + "\n"


def _columns(names: list[str]) -> str:
    """Return what there is instead; one column alone was hardly meant to be one."""
    if len(names) == 1:
        return "The whole line was read as one column: separate the columns of a CSV file by commas"
    return f"It has {', '.join(names[:12])}{' and others' if len(names) > 12 else ''}"


def _look(column: str, values: Any) -> _Column:
    text = as_text(values)
    present = [value for value in text if value is not None]
    name = re.sub(r"\W+", "_", column, flags=re.ASCII).strip("_").lower()[:60] or "column"
    name = name if re.match(r"[a-z]", name) else f"x_{name}"
    name = f"{name}_value" if name in RESERVED else name
    rows, missing = len(text), len(text) - len(present)
    counts = Counter(present)
    common = tuple(counts.most_common())
    if not present or len(counts) == 1:
        return _Column(column, name, "constant", missing, 0, rows, values=common)
    numbers, wrong = as_numbers(values)
    if (len(present) - wrong) / len(present) >= NUMBERS:
        found = numbers[np.isfinite(numbers)]
        form = "number"
        whole = bool((found == np.round(found)).all())
        # Whose row it is, once or several times: never a quantity.
        if whole and _IDENTIFIER.search(name):
            form = "identifier"
        return _Column(
            column, name, form, missing, wrong, rows,
            float(found.min()), float(found.max()), common[: MOST_CLASSES + 1],
        )  # fmt: skip
    if _TIME.search(name) or "datetime" in str(getattr(values, "dtype", "")):
        times = as_times(values)
        if np.isfinite(times).sum() >= NUMBERS * len(present):
            return _Column(column, name, "time", missing, 0, rows)
    if len(counts) <= MOST_CATEGORIES:
        return _Column(column, name, "category", missing, 0, rows, values=common)
    form = "identifier" if _IDENTIFIER.search(name) else "text"
    return _Column(column, name, form, missing, 0, rows)


def _head(table: Path, label: _Column, rest: list[_Column], *, asked: bool) -> Iterator[str]:
    classes = sorted(label.values)
    numeric = label.form == "number" and len(classes) > MOST_CLASSES // 2
    if label.form in ("time", "text", "identifier", "constant"):
        raise InvalidInputError(
            f"'{label.column}' cannot be predicted: it is {label.form}",
            where=str(table),
            fix="Name another with --label",
        )
    name = re.sub(r"\W+", "_", table.stem, flags=re.ASCII).strip("_").lower() or "task"
    name = name if re.match(r"[a-z]", name) else f"t_{name}"
    yield f"# A first task for {table.name}: {label.rows:,} rows. Every line with ? asks you."
    yield 'schema_version: "1"'
    yield f"name: {name[:63]}"
    yield f"kind: {'regression' if numeric else 'classification'}"
    yield f"data: {{source: {_text(f'file://{table.name}')}}}"
    time = next((column for column in rest if column.form == "time"), None)
    entity = next((column for column in rest if column.form == "identifier"), None)
    if time is None:
        yield "# ? Which column says when? With a time, the latest rows test; without one,"
        yield "#   random rows do, which flatters a model that will serve the future."
        yield "# time: COLUMN"
    else:
        yield "# ? Is this when the prediction would have been made?"
        yield f"time: {_text(time.column)}"
    if entity is None:
        yield "# ? Do several rows belong to one customer or machine? Name the column that says so."
        yield "# entity: COLUMN"
    else:
        yield "# ? Whose rows are these? Intervals draw whole entities; the values stay here."
        yield f"entity: {_text(entity.column)}"
    if asked:
        yield f"# ? Is '{label.column}' what is to be predicted? It was guessed."
    if numeric:
        yield f"label: {{name: {_text(label.column)}, delay_days: 0}}"
        return
    share = min(count for _, count in classes) / label.rows
    listed = ", ".join(_text(text) for text, _ in _ordered(label))
    yield f"# ? {len(classes)} classes, the rarest {share:.1%} of the rows. Of two, the score is"
    yield "#   the chance of the second. After how many days is the truth known (delay_days)?"
    yield f"label: {{name: {_text(label.column)}, classes: [{listed}], delay_days: 0}}"


def _ordered(label: _Column) -> list[tuple[str, int]]:
    # Of two, the rare one is what people look for.
    return (
        sorted(label.values, key=lambda item: (-item[1], item[0]))
        if len(label.values) == 2
        else sorted(label.values)
    )


def _features(rest: list[_Column]) -> Iterator[str]:
    yield ""
    yield "# ? Was each of these known before the label was? What was not must go."
    yield "features:"
    used: set[str] = set()
    left_out = []
    for column in rest:
        if column.form not in ("number", "category"):
            left_out.append(column)
            continue
        name = column.name
        while name in used:
            name += "_2"
        used.add(name)
        parts = [f"name: {name}"]
        if name != column.column:
            parts.append(f"column: {_text(column.column)}")
        parts.append(f"type: {column.form}")
        if column.form == "number":
            parts.append(f"range: [{_number(column.low)}, {_number(column.high)}]")
        else:
            listed = ", ".join(_text(text) for text, _ in sorted(column.values))
            parts.append(f"categories: [{listed}]")
        parts.append(f"missing: {'allow' if column.missing or column.wrong else 'flag'}")
        said = []
        if column.missing:
            said.append(f"{column.missing / column.rows:.1%} missing")
        if column.wrong:
            said.append(f"{column.wrong} values are no numbers and count as missing")
        yield f"  - {{{', '.join(parts)}}}{'  # ' + '; '.join(said) if said else ''}"
    for column in left_out:
        yield f"  # left out: {column.column!r} ({column.form})"


def _tail(label: _Column) -> Iterator[str]:
    numeric = label.form == "number" and len(label.values) > MOST_CLASSES // 2
    metric = "r2" if numeric else "roc_auc" if len(label.values) == 2 else "macro_f1"
    yield ""
    yield "# Categories whose rows are also measured apart."
    yield "segments: []"
    yield "split: {train: 0.6, valid: 0.2, test: 0.2}"
    yield "# ? Below which value must no model ship?"
    yield f"objective: {{metric: {metric}, floor: 0}}"
    yield "# linear, mlp or gbm (LightGBM)"
    yield "model: {family: linear, seed: 7}"
    yield "# ? What may a canary do worse? For rollouts that name no indicators themselves."
    yield "rollout:"
    yield "  latency_objective_seconds: 0.1"
    yield "  indicators:"
    yield "    - {name: errors, ratio: 1.5, allowance: 0.01}"
    yield "    - {name: slow, ratio: 1.5, allowance: 0.05}"


def _text(value: str) -> str:
    # JSON strings are YAML strings, whatever they hold.
    return json.dumps(value, ensure_ascii=False)


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
