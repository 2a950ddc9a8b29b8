"""The first task that a table gets."""

from pathlib import Path

import pytest

from davy.core.errors import InvalidInputError
from davy.data.table_draft import draft_task
from davy.data.table_task import load_table_task


def table(folder: Path, separator: str = ",") -> Path:
    """Write a small table of two classes and return its file."""
    path = folder / "visits.csv"
    rows = [("amount", "plan", "left")]
    rows += [(str(row * 1.5), "ab"[row % 2], ("no", "yes")[row % 3 == 0]) for row in range(60)]
    path.write_text("\n".join(separator.join(row) for row in rows) + "\n")
    return path


def test_a_package_of_a_drafted_task_can_be_rolled_out(tmp_path: Path) -> None:
    """A gate without an indicator refuses; so a draft names some."""
    task = tmp_path / "visits.yaml"
    task.write_text(draft_task(table(tmp_path), label="left"))
    assert [item.name for item in load_table_task(task).rollout.indicators] == ["errors", "slow"]


def test_a_label_that_is_not_there_is_told_what_is(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no column 'gone'") as refused:
        draft_task(table(tmp_path), label="gone")
    assert "It has amount, plan, left" in str(refused.value)


def test_a_table_with_another_separator_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no column 'left'") as refused:
        draft_task(table(tmp_path, ";"), label="left")
    assert "separate the columns of a CSV file by commas" in str(refused.value)
