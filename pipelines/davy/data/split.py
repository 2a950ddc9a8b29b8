"""The split by time: which part a week belongs to.

Belongs here: the one place that turns a week into a part. Not here: how many rows a part takes.
"""

from __future__ import annotations

from typing import Any

import ibis

from davy.data.task import Split


def part_of(week: int, split: Split) -> str | None:
    """Return the part that holds `week`, or None: before, after or between the parts."""
    for name, (first, last) in split.parts().items():
        if first <= week <= last:
            return name
    return None


def part_column(week: Any, split: Split) -> Any:
    """Return the same for an Ibis column of weeks; null where there is no part."""
    branches = [
        (week.between(first, last), ibis.literal(name))
        for name, (first, last) in split.parts().items()
    ]
    return ibis.cases(*branches, else_=ibis.null("string"))
