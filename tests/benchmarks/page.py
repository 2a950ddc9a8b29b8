"""The block of a page that a benchmark writes: what is between two comments of HTML.

Belongs here: finding and replacing it. Not here: what any benchmark writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from davy.core.errors import InvalidInputError
from davy.core.files import write_atomic

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Block:
    """A named block of a page.

    Attributes
    ----------
    page : Path
        The page.
    name : str
        The block is between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``.
    """

    page: Path
    name: str

    @property
    def begin(self) -> str:
        """The marker above the block."""
        return f"<!-- {self.name}:begin -->"

    @property
    def end(self) -> str:
        """The marker below the block."""
        return f"<!-- {self.name}:end -->"

    def replaced(self, text: str) -> str:
        """Return the page with `text` as its block.

        Raises
        ------
        InvalidInputError
            The page does not have both markers once and in this order: anything else would drop
            what stands around the block.
        """
        content = self.page.read_text(encoding="utf-8")
        before, _, rest = content.partition(self.begin)
        _, _, after = rest.partition(self.end)
        once = content.count(self.begin) == content.count(self.end) == 1
        if not once or self.end not in rest:
            raise InvalidInputError(
                f"has no one {self.begin} … {self.end}",
                where=str(self.page),
                fix="Put both where the benchmark's text belongs, each on a line of its own",
            )
        return f"{before}{self.begin}\n{text.strip()}\n{self.end}{after}"

    def check(self) -> None:
        """Raise as `replaced` does: before a benchmark runs, not after it."""
        self.replaced("")

    def write(self, text: str) -> None:
        """Replace the block; the page is written whole or not at all."""
        write_atomic(self.page, self.replaced(text).encode())
