"""Ends a build whose image is larger than its budget.

Belongs here: what counts, and the bound. Not here: the budgets (``image.toml``).

``python3 weigh.py BUDGET_MB FOLDER...``; run in the image's build. What counts is every file
unpacked, one of several names once, but for a model package: how large a model is, is its owner's
affair.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

PACKAGE = "bento/src/package"


def weight(folders: Sequence[Path]) -> int:
    """Return the bytes of all files below some folders."""
    seen = {}
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_relative_to(folder / PACKAGE):
                continue
            status = path.lstat()
            seen[status.st_dev, status.st_ino] = 0 if path.is_dir() else status.st_size
    return sum(seen.values())


def judge(megabytes: float, budget: float) -> str | None:
    """Return what is wrong, None where nothing is."""
    if megabytes <= budget:
        return None
    return (
        f"the image has {megabytes:.0f} MB and a budget of {budget:.0f} MB: leave out what it "
        "never loads (prune in its image.toml), or raise budget_mb there"
    )


if __name__ == "__main__":
    budget = float(sys.argv[1])
    total = weight([Path(name) for name in sys.argv[2:]]) / 1e6
    wrong = judge(total, budget)
    if wrong:
        sys.exit(f"weigh: {wrong}")
    sys.stdout.write(f"weighs {total:.0f} of {budget:.0f} MB\n")
