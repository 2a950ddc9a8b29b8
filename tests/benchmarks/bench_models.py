"""How good the shipped tasks' models are, beside what people would use instead, in the same run.

``python -m tests.benchmarks.bench_models`` writes its tables into pipelines/README.md; ``--only
TASK`` runs one task, ``--print`` only prints. Three seeds a side; intervals draw households.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.benchmarks.models.compare import Line, table
from tests.benchmarks.models.ranking import compare_rankers
from tests.benchmarks.models.tabular import compare_families
from tests.benchmarks.page import ROOT, Block

README = ROOT / "pipelines/README.md"
TASKS = ROOT / "pipelines/tasks"
Compared = tuple[list[Line], str]


def churn(_: Path | None) -> Compared:
    """Return the lines of churn."""
    return compare_families(TASKS / "churn.yaml", ("recency_days", "days since a visit"), 1.0)


def coupon_redemption(_: Path | None) -> Compared:
    """Return the lines of coupon_redemption."""
    rule = ("past_redemptions", "coupons redeemed before")
    return compare_families(TASKS / "coupon_redemption.yaml", rule, 1.0)


def next_basket(features: Path | None) -> Compared:
    """Return the lines of next_basket."""
    return compare_rankers(TASKS / "next_basket.yaml", features)


COMPARED: Mapping[str, Callable[[Path | None], Compared]] = {
    "churn": churn,
    "coupon_redemption": coupon_redemption,
    "next_basket": next_basket,
}
MEASURES = dict.fromkeys(COMPARED, ("PR-AUC", "ROC-AUC")) | {
    "next_basket": ("NDCG@10", "recall@10")
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=list(COMPARED), action="append")
    parser.add_argument("--features", type=Path, help="built features of next_basket")
    parser.add_argument("--print", action="store_true", help="write no page")
    given = parser.parse_args(arguments)
    names = given.only or list(COMPARED)
    blocks = {name: Block(README, f"models-{name}") for name in names}
    for block in blocks.values():
        if not given.print:
            block.check()
    for name in names:
        began = time.process_time()
        lines, said = COMPARED[name](given.features)
        took = time.process_time() - began
        text = (
            f"{table(lines, measures=MEASURES[name])}\n\n{said}"
            f" `make bench-models`, {max(1, round(took / 60))} min of CPU."
        )
        sys.stdout.write(f"{name}\n{text}\n\n")
        sys.stdout.flush()
        if not given.print:
            blocks[name].write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
