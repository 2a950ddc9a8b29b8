"""Outlier scores on real weeks: how many usual rows are flagged, and which faults are found?

``python -m tests.benchmarks.bench_outlier FEATURES`` writes its table into monitoring/README.md;
FEATURES is a folder that `davy.features.build` wrote for the task next_basket. ``--check`` only
prints, and exits 1 when the promise is broken. PyOD's models run beside ours in an environment of
their own, made once under ``~/.cache/davy-bench``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tests.benchmarks.bench_drift import PARTS, README, TASK, features, read
from tests.benchmarks.environment import interpreter
from tests.benchmarks.page import Block

from davy.data.task import Task, load_task
from davy.training.outliers import fit_detector

BLOCK = Block(README, "outlier")
RATE = 0.01
SEED = 2017
PYOD = ("pyod==2.0.5", "scikit-learn==1.5.2", "numpy<2")
METHODS = {"Davy, Mahalanobis": "mahalanobis", "Davy, isolation forest": "isolation_forest"}

Rows = Mapping[str, Any]


def shuffled(rows: Rows) -> Rows:
    """Join the household's part of a row to another household's."""
    order = np.random.default_rng(SEED).permutation(rows["spend_28d"].size)
    return {**rows, **{name: rows[name][order] for name in ("spend_28d", "baskets_90d")}}


FAULTS: Mapping[str, Callable[[Rows], Rows]] = {
    "unit_price in cents": lambda r: {**r, "unit_price": r["unit_price"] * 100},
    "spend_28d in cents": lambda r: {**r, "spend_28d": r["spend_28d"] * 100},
    "department_share in percent": lambda r: {**r, "department_share": r["department_share"] * 100},
    "days_since_bought in hours (of rows that have it)": lambda r: {
        **{name: values[~np.isnan(r["days_since_bought"])] for name, values in r.items()},
        "days_since_bought": r["days_since_bought"][~np.isnan(r["days_since_bought"])] * 24,
    },
    "never bought, yet a decayed count of 3": lambda r: {
        **r,
        "times_bought": np.zeros_like(r["times_bought"]),
        "decayed_count": r["decayed_count"] + 3,
    },
    "spend_28d and baskets_90d swapped": lambda r: {
        **r,
        "spend_28d": r["baskets_90d"],
        "baskets_90d": r["spend_28d"],
    },
    "spend_28d and baskets_90d of another household": shuffled,
    "mean_gap_days in weeks": lambda r: {**r, "mean_gap_days": r["mean_gap_days"] / 7},
}


@dataclass(frozen=True, slots=True)
class Found:
    """Shares of rows flagged in each usual week and under each fault; seconds of 1 and 100 rows."""

    usual: Sequence[float]
    faults: Mapping[str, float]
    seconds: Sequence[float]

    def cells(self) -> list[str]:
        """Return a column of the table."""
        return [
            f"{np.mean(self.usual):.2%} ({min(self.usual):.2%} to {max(self.usual):.2%})",
            *(f"{self.faults[name]:.0%}" for name in FAULTS),
            *(f"{value * 1e6:,.0f} µs" for value in self.seconds),
        ]


def ours(task: Task, method: str, reference: Rows, live: Rows) -> Found:
    """Judge the rows with one of Davy's methods, fitted and calibrated as a package's is."""
    wanted = task.monitoring.outliers.model_copy(
        update={"method": method, "false_positive_rate": RATE}
    )
    monitoring = task.monitoring.model_copy(update={"outliers": wanted})
    asked = task.model_copy(update={"monitoring": monitoring})
    usual = []
    for week in np.unique(reference["week"]):
        detector = fit_detector(asked, features(reference, reference["week"] != week))
        usual.append(float(detector.flags(features(reference, reference["week"] == week)).mean()))
    detector = fit_detector(asked, features(reference, slice(None)))
    usual += [
        float(detector.flags(features(live, live["week"] == week)).mean())
        for week in np.unique(live["week"])
    ]
    rows = features(live, slice(None))
    faults = {name: float(detector.flags(fault(rows)).mean()) for name, fault in FAULTS.items()}
    costs = []
    for count in (1, 100):
        some = {
            name: values[:count] if values.dtype == np.int64 else values[:count].astype(np.float32)
            for name, values in rows.items()
        }
        times = []
        for _ in range(200):
            began = time.perf_counter()
            detector.flags(some)
            times.append(time.perf_counter() - began)
        costs.append(min(times))
    return Found(usual, faults, costs)


def theirs(reference: Rows, live: Rows) -> dict[str, Found]:
    """Judge the same rows with PyOD, in a process of its own environment."""
    python = interpreter(PYOD[0].replace("==", "-"), PYOD)
    rows = features(live, slice(None))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npz"
        np.savez(
            path,
            reference=_matrix(features(reference, slice(None))),
            weeks=reference["week"],
            live=_matrix(rows),
            live_weeks=live["week"],
            rate=RATE,
            **{f"fault {name}": _matrix(fault(rows)) for name, fault in FAULTS.items()},
        )
        done = subprocess.run(
            [python, Path(__file__).with_name("outlier_rival.py"), path],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return {
        name: Found(
            found["usual"],
            {fault.removeprefix("fault "): share for fault, share in found["faults"].items()},
            found["seconds"],
        )
        for name, found in json.loads(done.stdout).items()
    }


def _matrix(rows: Rows) -> Any:
    return np.column_stack([np.asarray(values, np.float64) for values in rows.values()])


def table(found: Mapping[str, Found], weeks: int, rows: int) -> str:
    """Return the note and the table."""
    note = (
        f"Usual rows: {weeks} real weeks that neither fit nor threshold had seen (one row a "
        f"request, as in a package's reference), at {RATE:.0%} allowed; mean, and least to most of "
        f"a week. Faults: each put into all {rows:,} rows of the last weeks. PyOD ({PYOD[0]}) has "
        "the same rows, its own threshold from the training scores, missing values by the median. "
        "Time: the fastest of many calls, all on one busy machine."
    )
    labels = ["usual rows flagged", *FAULTS, "1 row", "100 rows"]
    columns = [item.cells() for item in found.values()]
    lines = [
        "| | " + " | ".join(found) + " |",
        "|---" * (len(found) + 1) + "|",
        *(
            f"| {label} | " + " | ".join(column[place] for column in columns) + " |"
            for place, label in enumerate(labels)
        ),
    ]
    return "\n".join((note, "", *lines))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("features", type=Path)
    parser.add_argument("--check", action="store_true", help="print only")
    given = parser.parse_args(arguments)
    if not given.check:
        BLOCK.check()
    task = load_task(TASK)
    valid, test, live = (read(task, given.features / f"{part}.parquet") for part in PARTS)
    reference = {name: np.concatenate([valid[name], test[name]]) for name in valid}
    found = {name: ours(task, method, reference, live) for name, method in METHODS.items()}
    found |= theirs(reference, live)
    weeks = len(found["PyOD MCD"].usual)
    text = table(found, weeks, live["week"].size)
    sys.stdout.write(text + "\n")
    if not given.check:
        BLOCK.write(text)
    # A week is some hundred requests of a few hundred households, which shop alike for weeks:
    # the mean over weeks may be off by more than independent rows would allow.
    broken = [name for name in METHODS if np.mean(found[name].usual) > 1.5 * RATE]
    if broken:
        sys.stderr.write(f"promise broken: {', '.join(broken)}\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
