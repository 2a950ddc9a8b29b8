"""The drift alert on real weeks: how often is it false, and how soon does it find a real drift?

``python -m tests.benchmarks.bench_drift FEATURES`` writes its table into monitoring/README.md;
FEATURES is a folder that `davy.features.build` wrote for the task next_basket (made when absent,
in two minutes). ``--check`` only prints, and exits 1 when a promise is broken.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from scipy import stats
from tests.benchmarks.page import ROOT, Block

from davy.data.prepare import prepare
from davy.data.task import Task, load_task
from davy.detector.samples import pick_row
from davy.drift.judge import Null, Rules, persist
from davy.drift.null import null_distances
from davy.drift.tabular import TabularDetector, tabular_detector
from davy.features.build import build

README = ROOT / "monitoring/README.md"
BLOCK = Block(README, "bench")
TASK = ROOT / "pipelines/tasks/next_basket.yaml"
DRAWS = 100
WINDOWS = 100
SEED = 2017
PARTS = ("valid", "test", "replay")

Rows = Mapping[str, Any]


@dataclass(slots=True)
class Seen:
    """What a stream of windows gave."""

    name: str
    windows: int = 0
    flagged: int = 0
    active: set[str] = field(default_factory=set)
    first: int | None = None

    def cells(self) -> tuple[str, ...]:
        """Return a row of the table."""
        first = "-" if self.first is None else f"window {self.first}"
        names = ", ".join(sorted(self.active)) or "-"
        return self.name, f"{self.flagged} of {self.windows}", names, first


def read(task: Task, path: Path) -> Rows:
    """Return one row of each request, picked as the detector picks it."""
    table = pq.read_table(path)
    ids = table["request_id"].to_numpy()
    starts = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]])
    sizes = np.diff(np.r_[starts, len(ids)])
    rows = starts + [pick_row(str(ids[a]), int(n)) for a, n in zip(starts, sizes, strict=True)]
    types = {f.name: np.int64 if f.type == "category" else np.float64 for f in task.features}
    columns = {name: table[name].to_numpy()[rows].astype(kind) for name, kind in types.items()}
    order = np.argsort(table["time"].to_numpy()[rows], kind="stable")
    week = table["week"].to_numpy()[rows]
    return {name: values[order] for name, values in {**columns, "week": week}.items()}


def features(rows: Rows, where: Any) -> dict[str, Any]:
    """Return the features of some rows."""
    return {name: values[where] for name, values in rows.items() if name != "week"}


def fit(task: Task, reference: Rows, weeks: Sequence[int], engine: Any) -> TabularDetector:
    """Return a detector calibrated on weeks as a package is."""
    blocks = {week: features(reference, reference["week"] == week) for week in weeks}
    size = task.monitoring.window_rows
    drawn = null_distances(
        blocks, window_rows=size, draws_per_block=DRAWS, rng=np.random.default_rng(SEED)
    )
    floors = task.monitoring.floors.model_dump()
    nulls = {key: Null(values, floors[key[1]]) for key, values in drawn.items()}
    whole = {name: np.concatenate([b[name] for b in blocks.values()]) for name in blocks[weeks[0]]}
    return tabular_detector(engine, nulls, Rules(window_rows=size)).fit(whole)


def drawn(rows: Rows, where: Any, size: int) -> Iterator[dict[str, Any]]:
    """Draw windows of the chosen rows, in any order."""
    rng = np.random.default_rng(SEED)
    places = np.flatnonzero(where)
    for _ in range(WINDOWS):
        yield features(rows, rng.choice(places, size, replace=size > places.size))


def watch(name: str, detector: TabularDetector, windows: Iterator[dict[str, Any]]) -> Seen:
    """Test windows one after another, as the detector's service does."""
    seen, streaks = Seen(name), {}
    for window in windows:
        result = detector.test(window)
        streaks = persist(streaks, result, detector.rules)
        seen.windows += 1
        seen.flagged += result.status == "drift"
        active = {f"{key[0]} ({key[1]})" for key, streak in streaks.items() if streak.active}
        seen.active |= active
        if active and seen.first is None:
            seen.first = seen.windows
    return seen


def null_column(window: dict[str, Any]) -> dict[str, Any]:
    """Break the join that brings the popularity."""
    return {**window, "popularity_28d": np.full_like(window["popularity_28d"], np.nan)}


def dearer(window: dict[str, Any]) -> dict[str, Any]:
    """Raise all prices by a quarter."""
    return {**window, "unit_price": window["unit_price"] * 1.25}


def weeks_for_days(window: dict[str, Any]) -> dict[str, Any]:
    """Give a recency in weeks where days are expected."""
    return {**window, "days_since_basket": window["days_since_basket"] // 7}


INJECTED: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "popularity_28d turns null": null_column,
    "unit_price × 1.25": dearer,
    "days_since_basket in weeks": weeks_for_days,
}


def per_window(detector: TabularDetector, windows: Sequence[dict[str, Any]]) -> float:
    """Return the CPU seconds that a window takes."""
    began = time.process_time()
    for window in windows:
        detector.test(window)
    return (time.process_time() - began) / len(windows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("features", type=Path)
    parser.add_argument("--check", action="store_true", help="print only")
    given = parser.parse_args(arguments)
    if not given.check:
        BLOCK.check()
    task = load_task(TASK)
    if not (given.features / "features.json").is_file():
        given.features.mkdir(parents=True, exist_ok=True)
        prepare(task, given.features / "data")
        build(task, given.features / "data", given.features)
    valid, test, replay = (read(task, given.features / f"{p}.parquet") for p in PARTS)
    reference = {name: np.concatenate([valid[name], test[name]]) for name in valid}
    past = sorted({int(week) for week in reference["week"]})
    size = task.monitoring.window_rows
    detector = fit(task, reference, past, "native")
    held_out = []
    for week in past:
        others = [other for other in past if other != week]
        windows = drawn(reference, reference["week"] == week, size)
        held_out.append(watch(f"week {week}", fit(task, reference, others, "native"), windows))
    for week in sorted({int(week) for week in replay["week"]}):
        windows = drawn(replay, replay["week"] == week, size)
        held_out.append(watch(f"week {week}, after the reference", detector, windows))
    rows, everything = list(held_out), np.full(replay["week"].size, True)
    last = replay["week"].size - size + 1
    live = (features(replay, slice(a, a + size)) for a in range(0, last, size))
    rows.append(watch("the weeks after, in the order that requests came", detector, live))
    rows.append(watch("the weeks after, mixed", detector, drawn(replay, everything, size)))
    found = [
        watch(f"the same, {name}", detector, map(change, drawn(replay, everything, size)))
        for name, change in INJECTED.items()
    ]
    rows += found
    alarms, days = sum(bool(seen.active) for seen in held_out), 7 * len(held_out)
    upper = float(stats.chi2.ppf(0.975, 2 * alarms + 2)) / 2
    lower = float(stats.chi2.ppf(0.025, 2 * alarms)) / 2 if alarms else 0.0
    sample = list(drawn(replay, everything, size))[:30]
    alibi = fit(task, reference, past, "alibi")
    note = (
        f"On {len(held_out)} real weeks that the calibration had not seen (each of {past[0]} to "
        f"{past[-1]} against the others, the later ones against all; {WINDOWS} windows of {size} "
        f"rows drawn from each, {len(detector.nulls)} tests a window, score left out), "
        f"{alarms} had an alert: "
        f"**{alarms * 30 / days:.1f} alerts per model in 30 days** (95 % interval "
        f"{lower * 30 / days:.1f} to {upper * 30 / days:.1f}; alerts in one week count once). "
        "A week unlike every week of the reference, such as one before Christmas, counts as false "
        "here: eight weeks cannot hold all seasons. A window takes "
        f"{per_window(detector, sample) * 1e3:.0f} ms of CPU with the native engine, "
        f"{per_window(alibi, sample) * 1e3:.0f} ms with alibi-detect."
    )
    head = ("stream", "windows that drift", "active", "first active after")
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *(row.cells() for row in rows))]
    lines.insert(1, "|---" * len(head) + "|")
    text = "\n".join((note, "", *lines))
    sys.stdout.write(text + "\n")
    if not given.check:
        BLOCK.write(text)
    missed = [seen.name for seen in found if seen.first is None or seen.first > 3]
    if missed or lower * 30 / days > 1:
        sys.stderr.write(f"promise broken: {', '.join(missed) or 'too many alerts'}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
