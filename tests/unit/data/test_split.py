"""The split by time: every week has one part or none."""

import ibis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from davy.data.split import part_column, part_of
from davy.data.task import PARTS, Split

SPLIT = Split(train=(14, 40), valid=(41, 44), test=(46, 48), replay=(49, 52))


@pytest.mark.parametrize(
    ("week", "part"),
    [(13, None), (14, "train"), (40, "train"), (41, "valid"), (45, None), (46, "test"),
     (52, "replay"), (53, None)],
)  # fmt: skip
def test_part_of(week, part):
    assert part_of(week, SPLIT) == part


def test_the_column_says_the_same():
    weeks = list(range(1, 54))
    table = ibis.memtable({"week": weeks})
    found = table.select("week", part=part_column(table.week, SPLIT)).to_pyarrow().to_pylist()
    assert {row["week"]: row["part"] for row in found} == {w: part_of(w, SPLIT) for w in weeks}


@given(st.lists(st.integers(1, 60), min_size=8, max_size=8, unique=True))
def test_parts_never_share_a_week_and_follow_one_another(weeks):
    ordered = sorted(weeks)
    split = Split(**{part: (ordered[2 * i], ordered[2 * i + 1]) for i, part in enumerate(PARTS)})
    found = [part for week in range(1, 61) if (part := part_of(week, split))]
    assert found == sorted(found, key=PARTS.index)
    assert set(found) == set(PARTS)
