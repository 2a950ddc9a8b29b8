"""A small feature folder with a known signal, in the shape that the features step writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from davy.data.task import Task, parse_task

TASK = """
name: synthetic
kind: ranking
data: {source: "completejourney:"}
label: {name: bought}
candidates: {per_basket: 12}
features:
  - {name: days_since, type: category, range: [1, 20], missing: reject}
  - {name: times_bought, type: number, range: [0, 400], missing: reject}
  - {name: gap, type: number, range: [0, 366], missing: allow}
  - {name: price, type: number, range: [0, 200], missing: flag}
  - {name: department, type: category, range: [0, 5], missing: reject}
segments: [shopper]
split: {train: [1, 4], valid: [5, 6], test: [7, 8], replay: [9, 10]}
objective: {metric: ndcg@10, floor: 0.05}
model: {hidden: [32, 16], epochs: 4, train_baskets: 400, batch_rows: 256, learning_rate: 0.01, seed: 3}
compression:
  {budget: 0.05, batch: 12, prefer: size, candidates: [fp32, int8, pruned, pruned_int8],
   prune_share: 0.5, fine_tune_epochs: 2}
monitoring: {window_rows: 50}
"""  # noqa: E501

PARTS = {"train": 500, "valid": 300, "test": 300, "replay": 20}


def synthetic_task(*overrides: str) -> Task:
    """The task of the synthetic rows."""
    return parse_task(TASK, overrides)


def write_features(folder: Path, *, seed: int = 0) -> Path:
    """Write the four parts; what is bought depends on times_bought, department and gap."""
    folder.mkdir(parents=True, exist_ok=True)
    task = synthetic_task()
    rng = np.random.default_rng(seed)
    for part, requests in PARTS.items():
        first, last = task.split.parts()[part]
        pq.write_table(_part(rng, part, requests, first, last), folder / f"{part}.parquet")
    return folder


def _part(rng: np.random.Generator, part: str, requests: int, first: int, last: int) -> pa.Table:
    candidates = synthetic_task().candidates.per_basket
    rows = requests * candidates
    household = rng.integers(60, size=requests)
    week = rng.integers(first, last + 1, size=requests)
    times = rng.gamma(0.5, 4.0, size=rows).round()
    gap = np.where(rng.random(rows) < 0.4, np.nan, rng.uniform(1, 90, size=rows))
    department = rng.integers(6, size=rows)
    appeal = 1.2 * np.log1p(times) + 0.5 * (department == 2) + 0.8 * (np.nan_to_num(gap) > 45)
    label = (rng.random(rows) < 1 / (1 + np.exp(3.2 - appeal))).astype(np.int8)
    bought = label.reshape(requests, candidates).sum(axis=1)

    def each(values: np.ndarray) -> np.ndarray:
        return np.repeat(values, candidates)

    names = np.array([f"h{number:03d}" for number in household])
    time = np.datetime64("2017-01-01T10:00:00", "us") + week * np.timedelta64(7, "D")
    return pa.table(
        {
            "request_id": each(np.array([f"{part}-{index}" for index in range(requests)])),
            "household_id": each(names),
            "product_id": np.tile(np.arange(candidates), requests),
            "time": each(time),
            "week": each(week),
            "label": label,
            "basket_size": each(bought + rng.integers(1, 5, size=requests)),
            "days_since": each(rng.integers(1, 21, size=requests)),
            "times_bought": times.astype(np.float32),
            "gap": gap.astype(np.float32),
            "price": rng.lognormal(1.0, 0.6, size=rows).astype(np.float32),
            "department": department,
            "segment_shopper": each(np.where(household < 30, "often", "seldom")),
            "baseline_popularity": rng.random(rows).astype(np.float32),
            "baseline_personal": times.astype(np.float32),
        }
    )
