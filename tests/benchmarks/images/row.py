"""A row of the images' table.

Belongs here: its figures and its text. Not here: measuring.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

SBOM = "app/sbom/image.cdx.json"
HEAD = (
    "| image | MB | of at most | packages of Python | of Debian | ready after (s) | memory (MB) "
    "| SIGTERM to end (s) |",
    "|---|---|---|---|---|---|---|---|",
)


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of an image.

    Attributes
    ----------
    name : str
        The image's.
    megabytes, budget : float
        Of all files; and at most.
    python, debian : int
        Packages in its bill of materials.
    ready, memory, end : float, optional
        Seconds until it answers, MB of its processes then, seconds from SIGTERM to its end.
    """

    name: str
    megabytes: float
    budget: float
    python: int
    debian: int
    ready: float | None = None
    memory: float | None = None
    end: float | None = None

    def measured(self, *, ready: float, memory: float | None, end: float | None) -> Row:
        """Return the row with what a start gave."""
        return replace(self, ready=ready, memory=memory, end=end)

    def text(self) -> str:
        """Return it as a line of the table."""
        cells = (
            f"`{self.name}`",
            f"{self.megabytes:,.0f}",
            f"{self.budget:,.0f}",
            str(self.python),
            str(self.debian),
            _number(self.ready, 1),
            _number(self.memory, 0),
            _number(self.end, 1),
        )
        return f"| {' | '.join(cells)} |"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def materials(root: Path) -> tuple[int, int]:
    """Return how many packages of Python and of Debian an image's bill of materials has."""
    document = json.loads((root / SBOM).read_text(encoding="utf-8"))
    kinds = [item["purl"].partition("/")[0] for item in document["components"]]
    return kinds.count("pkg:pypi"), kinds.count("pkg:deb")


def table(old: str, rows: Mapping[str, Row], order: list[str], footnote: str) -> str:
    """Return the block of the page: new rows, and those of `old` that were not measured again."""
    kept = {line.split("`")[1]: line for line in old.splitlines() if line.startswith("| `")}
    lines = {**kept, **{row.name: row.text() for row in rows.values()}}
    known = [lines[name] for name in order if name in lines]
    return "\n".join([*HEAD, *known, "", footnote])
