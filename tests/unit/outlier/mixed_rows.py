"""Rows of mixed features that go together, and faults that break that."""

from __future__ import annotations

import numpy as np


def usual(rng: np.random.Generator, rows: int) -> dict[str, np.ndarray]:
    """Baskets and what they cost, a gap that may be missing, a department with its price level."""
    baskets = rng.poisson(20, rows) + 1.0
    spend = baskets * rng.lognormal(3, 0.25, rows)
    department = rng.choice(6, rows, p=[0.4, 0.25, 0.15, 0.1, 0.07, 0.03])
    price = rng.lognormal(1.0, 0.4, rows)
    gap = rng.exponential(20, rows)
    gap[rng.random(rows) < 0.3] = np.nan
    return {
        "baskets": baskets.astype(np.float32),
        "spend": spend.astype(np.float32),
        "price": price.astype(np.float32),
        "gap": gap.astype(np.float32),
        "department": department.astype(np.int64),
    }


def spend_in_cents(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {**rows, "spend": rows["spend"] * np.float32(100)}


def days_in_seconds(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {**rows, "gap": rows["gap"] * np.float32(86400)}


def impossible_combination(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A lot spent in few baskets: each value alone is usual."""
    count = len(rows["spend"])
    return {
        **rows,
        "baskets": np.full(count, 11, np.float32),
        "spend": np.full(count, 760, np.float32),
    }


FAULTS = {
    spend_in_cents: 0.99,
    days_in_seconds: 0.65,  # of the rest, the gap is missing
    impossible_combination: 0.95,
}
