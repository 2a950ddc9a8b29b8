"""Rollouts that run here: one record in a folder, or folders of records below it.

Belongs here: finding and reading them. Not here: what a standing holds (`davy.rollout.standing`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from davy.core.errors import NotFoundError
from davy.rollout.adapters.folder_journal import RECORD
from davy.rollout.record_file import read_record
from davy.rollout.standing import Standing, standing_of


@dataclass(frozen=True, slots=True)
class FolderRollouts:
    """``FOLDER/record.jsonl``, or ``FOLDER/NAME/record.jsonl`` of each name."""

    folder: Path

    def names(self) -> Sequence[str]:
        """Return the names of the folders that hold a record; "." for the folder itself."""
        if (self.folder / RECORD).is_file():
            return (".",)
        if not self.folder.is_dir():
            return ()
        return sorted(path.parent.name for path in self.folder.glob(f"*/{RECORD}"))

    def standing(self, name: str) -> Standing:
        """Return where one stands; reading takes no lock, so the rollout goes on meanwhile."""
        path = self.folder / name / RECORD
        if not path.is_file():
            raise NotFoundError(
                "no decision record here", where=str(self.folder / name),
                fix="Name the folder that davy rollout run was given as --state",
            )  # fmt: skip
        return standing_of(read_record(path), where=str(path))
